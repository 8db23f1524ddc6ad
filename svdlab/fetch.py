"""Fetch bytes from a web address without being led anywhere else.

An address may come from a stranger (a job on a server, a row of a table), so it must not become a way to look into the
machine or the network that svdlab runs in. Every name is resolved once, every address that it resolves to must be a
public one, and the connection goes to an address that was checked, not to the name again: a name server that changes
its answer between check and use gains nothing. Redirects are followed by the same rules. Time and bytes are limited in
total. Proxies from the environment are not used, since a proxy would resolve the name a second time.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from svdlab._version import __version__
from svdlab.errors import SvdlabError

SECONDS = 30.0
MAX_REDIRECTS = 5

_INSTEAD = "Save the file yourself and give its path instead."

# The only IPv6 block from which public addresses are given out (IANA, "Internet Protocol Version 6 Address Space").
# Being outside it refuses loopback, link-local, unique-local, multicast and every IPv4-mapped or -compatible form.
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Never a web server, though some versions of Python's `is_global` say otherwise or look only at the outer address.
_SPECIAL = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments, Teredo tunnels among them
        "2002::/16",  # 6to4: an IPv4 address, maybe a private one, in disguise
        "3fff::/20",  # documentation
    )
)


class FetchError(SvdlabError, OSError):
    """A web address may not be fetched, or could not be."""


class FetchRefusedError(FetchError):
    """A web address may not be used, now or later: its form or where it leads is against the rules."""


def fetch(
    url: str,
    *,
    max_bytes: int,
    seconds: float = SECONDS,
    max_redirects: int = MAX_REDIRECTS,
    allow_private: bool = False,
) -> bytes:
    """Return what an http(s) `url` holds.

    Args:
        url: ``http://`` or ``https://``; no user name or password in it. Ports are 80, 443, or 1024 and up.
        max_bytes: more than this is refused, whether announced or not.
        seconds: for everything together: names, connections, redirects, bytes.
        max_redirects: how many redirects may be followed; each target is checked like `url` itself, and https never
            leads back to http.
        allow_private: let loopback, private and other non-public addresses pass, and every port. For your own servers.

    Raises:
        FetchError: refused by these rules, unreachable, not found, too slow, too large, or cut short.

    Example:
        >>> data = fetch("https://example.org/rocket.jpg", max_bytes=10_000_000)
    """
    clock = _Clock(seconds)
    for _ in range(max_redirects + 1):
        target = _Target(url, allow_private)
        try:
            body, location = _get(target, clock, max_bytes, allow_private)
        except FetchError:
            raise
        except TimeoutError:
            raise FetchError(f"{target.shown} did not answer in full within {seconds:g} s. {_INSTEAD}") from None
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"{target.shown}: certificate refused ({error.verify_message}). {_INSTEAD}") from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            why = _plain(f"{type(error).__name__}: {error}"[:200])
            raise FetchError(f"{target.shown} could not be fetched ({why}). {_INSTEAD}") from error
        if location is None:
            return body
        try:
            url = urllib.parse.urljoin(url, location)
        except ValueError as error:
            raise FetchError(
                f"{target.shown} redirects to something that is no address ({error}). {_INSTEAD}"
            ) from error
        if target.tls and not url.lower().startswith("https:"):
            raise FetchError(f"{target.shown} leads from https to {_shorten(url)}: refused. {_INSTEAD}")
    raise FetchError(f"{_shorten(url)}: more than {max_redirects} redirects. Give the address at their end.")


def post(
    url: str, body: bytes, *, headers: Mapping[str, str], seconds: float = SECONDS, allow_private: bool = False
) -> int:
    """Send `body` to an http(s) `url` by POST and return the status code; what is answered beside it is not read.

    The rules are those of `fetch`, but that no redirect is followed.

    Raises:
        FetchRefusedError: the address may not be used.
        FetchError: unreachable, or no answer within `seconds`.

    Example:
        >>> post("https://example.org/hook", b"{}", headers={"Content-Type": "application/json"})
        200
    """
    clock = _Clock(seconds)
    try:
        target = _Target(url, allow_private)
    except FetchError as error:
        raise FetchRefusedError(str(error)) from error
    try:
        connection = _Connection(target, _checked(target, clock, allow_private), clock)
        with contextlib.closing(connection):
            fixed = {"User-Agent": f"svdlab/{__version__}", "Connection": "close"}
            connection.request("POST", target.path, body, {**headers, **fixed})
            with connection.getresponse() as response:
                return response.status
    except FetchError:
        raise
    except TimeoutError:
        raise FetchError(f"{target.shown} did not answer within {seconds:g} s.") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise FetchError(
            f"{target.shown} could not be reached ({type(error).__name__}: {_plain(str(error))[:200]})"
        ) from error


def is_public(address: str) -> bool:
    """Whether an IP address in text form belongs to the public internet.

    Loopback, private, link-local, shared (CGNAT), multicast, reserved and documentation blocks do not; nor do IPv6
    forms that carry an IPv4 address (mapped, compatible, 6to4, Teredo). The one exception is the well-known NAT64
    prefix, by which IPv6-only networks reach IPv4: there the IPv4 address inside decides.

    Example:
        >>> is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("8.8.8.8")
        (False, False, True)
    """
    ip = ipaddress.ip_address(address)
    if ip in _NAT64:
        ip = ipaddress.IPv4Address(ip.packed[-4:])
    elif ip.version == 6 and ip not in _IPV6_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in block for block in _SPECIAL)


class _Clock:
    """One limit of time for many waits."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, always above zero; TimeoutError once there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Target:
    """A web address, taken apart and found to be of a form that may be fetched."""

    def __init__(self, url: str, allow_private: bool) -> None:
        self.shown = _shorten(url)
        # urlsplit drops tabs and newlines without a word, and browsers read a backslash as a slash: refuse both. Half a
        # surrogate pair is no letter, and cannot be sent.
        if re.search(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]", url):
            raise FetchError(f"{self.shown!r} has blanks, control characters or backslashes in it: not a web address.")
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise FetchError(f"{self.shown!r} is not a web address ({error}).") from error
        if parts.scheme not in ("http", "https"):
            raise FetchError(f"{self.shown}: only http and https addresses are fetched. {_INSTEAD}")
        if "@" in parts.netloc:
            raise FetchError(f"{self.shown}: an address with a user name or password is not fetched. {_INSTEAD}")
        self.tls = parts.scheme == "https"
        self.host = _ascii_host(parts.hostname or "", self.shown)
        self.port = port if port is not None else (443 if self.tls else 80)
        if not (allow_private or self.port in (80, 443) or self.port >= 1024):
            raise FetchError(
                f"{self.shown}: port {self.port} belongs to another service; 80, 443 or 1024 and up may be used."
            )
        query = f"?{parts.query}" if parts.query else ""
        self.path = urllib.parse.quote((parts.path or "/") + query, safe="/%?&=+$,;:@!'()*~[]-._|")


def _ascii_host(host: str, shown: str) -> str:
    """`host` as name servers and certificates spell it."""
    try:
        name = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not name.strip("."):
        raise FetchError(f"{shown}: there is no usable host name in this address.")
    return name


def _shorten(url: str) -> str:
    """`url` for a message: without its query, which may hold a signature, and not at any length."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    bare = _plain(re.sub(r"(?<=//)[^/]*@", "", bare))
    return bare if len(bare) <= 120 else bare[:117] + "..."


def _plain(text: str) -> str:
    """`text` that a stranger wrote, for a message: what would steer a terminal becomes U+FFFD."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _get(target: _Target, clock: _Clock, max_bytes: int, allow_private: bool) -> tuple[bytes, str | None]:
    """One request: the body, or the place that it redirects to."""
    connection = _Connection(target, _checked(target, clock, allow_private), clock)
    try:
        headers = {
            "User-Agent": f"svdlab/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        connection.request("GET", target.path, headers=headers)
        with connection.getresponse() as response:
            if response.status in (301, 302, 303, 307, 308):
                location = response.getheader("Location")
                if not location:
                    raise FetchError(f"{target.shown} redirects ({response.status}) without saying where to.")
                return b"", location.encode("latin-1").decode("utf-8", "replace")
            if response.status != 200:
                raise FetchError(
                    f"{target.shown} answered {response.status} {_plain(response.reason[:60])}, not 200 OK."
                    " Check the address."
                )
            return _read(response, target, max_bytes), None
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, target: _Target, max_bytes: int) -> bytes:
    """The whole body, or an error."""
    if (coding := response.getheader("Content-Encoding", "identity")).lower() != "identity":
        raise FetchError(
            f"{target.shown} sends {coding[:20]!r}-encoded bytes though plain ones were asked for. {_INSTEAD}"
        )
    too_large = FetchError(f"{target.shown} is larger than the {max_bytes} bytes that are allowed. {_INSTEAD}")
    if (response.length or 0) > max_bytes:
        raise too_large
    body = bytearray()
    # Not `read`, which asks for all there is when a chunk says that its size is -1.
    while piece := response.read1(65536):
        body += piece
        if len(body) > max_bytes:  # no length was announced
            raise too_large
    if response.length:  # what was announced and has not come
        raise FetchError(f"{target.shown} ended {response.length} bytes early. Try again.")
    return bytes(body)


def _checked(target: _Target, clock: _Clock, allow_private: bool) -> list[tuple[Any, ...]]:
    """Every address of the target's host, all of them found to be allowed."""
    addresses = _resolve(target, clock)
    if not allow_private:
        for *_, address in addresses:
            if not is_public(address[0]):
                raise FetchRefusedError(
                    f"{target.shown} leads to {address[0]}, which is not an address on the public internet: refused. "
                    f"{_INSTEAD} For a server of your own, allow private addresses (allow_private_urls=True)."
                )
    return addresses


def _resolve(target: _Target, clock: _Clock) -> list[tuple[Any, ...]]:
    """Every address of the target's host, as (family, type, protocol, name, address)."""
    answer: queue.SimpleQueue[list[tuple[Any, ...]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(list(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)))
        except Exception as error:
            answer.put(error)

    # The system's resolver takes no time limit, so it is asked from a thread that may be left behind.
    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=clock.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise FetchError(f"{target.shown}: the host cannot be found ({found}). Check the address.") from found
    if not found:
        raise FetchError(f"{target.shown}: the host has no address. Check the address.")
    return found


class _Connection(http.client.HTTPConnection):
    """A connection to one of `addresses` and to nothing else; the name serves only for certificate and Host header."""

    def __init__(self, target: _Target, addresses: list[tuple[Any, ...]], clock: _Clock) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.tls else 80
        self._target, self._addresses, self._clock = target, addresses, clock

    def connect(self) -> None:
        """Connect to the first address that answers; each gets its share of the time that is left."""
        for index, (family, kind, protocol, _, address) in enumerate(self._addresses):
            share = self._clock.left() / (len(self._addresses) - index)
            try:
                sock = _opened(socket.socket(family, kind, protocol), address, share)
                break
            except OSError:  # of the first line too, where the machine has no IPv6
                if index == len(self._addresses) - 1:
                    raise
        if self._target.tls:
            try:
                sock.settimeout(self._clock.left())
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
            except BaseException:
                sock.close()
                raise
        self.sock = _TimedSocket(sock, self._clock)


def _opened(sock: socket.socket, address: Any, seconds: float) -> socket.socket:
    """`sock`, connected; closed if it cannot be."""
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


class _TimedSocket:
    """What http.client needs of a socket, with the time that is left in all set before every wait.

    A socket's own timeout starts anew with each byte that arrives, so a server that drips could hold it for ever.
    """

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._sock, self._clock = sock, clock

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._clock.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._clock))

    def close(self) -> None:
        self._sock.close()


class _TimedReader(io.RawIOBase):
    """The reading half of `_TimedSocket`; it keeps the socket open until it is closed itself."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._sock, self._clock = sock, clock
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._clock.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
