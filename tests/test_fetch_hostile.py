"""Servers and machines out of the ordinary, against the guarded fetch; each answers on the loopback address."""

from __future__ import annotations

import contextlib
import socket
import socketserver
from collections.abc import Callable, Iterator

import pytest

from svdlab.errors import ImageError
from svdlab.fetch import FetchError, fetch
from svdlab.images import load_image
from tests.serving import answering

Answer = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def raw(answer: Answer) -> Iterator[str]:
    """The address of a server that answers every request with whatever `answer` writes."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.recv(65536)
                answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with answering(Server(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/x"


def get(url: str, **settings: object) -> bytes:
    return fetch(url, **{"max_bytes": 100_000, "seconds": 5, "allow_private": True, **settings})  # type: ignore[arg-type]


def test_a_chunk_of_negative_size_is_no_way_round_the_limit_of_bytes() -> None:
    sent = 0

    def flood(client: socket.socket) -> None:
        nonlocal sent
        client.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")
        for _ in range(200):  # 200 MB, unless the reader leaves
            client.sendall(bytes(2**20))
            sent += 2**20

    with raw(flood) as url, pytest.raises(FetchError, match="larger than the 100000 bytes"):
        get(url)
    assert sent < 50 * 2**20  # what the sockets hold, not the flood


@pytest.mark.parametrize("size", [b"-5", b"zz", b"", b"0x"])
def test_a_chunk_without_a_size_is_an_error_in_words(size: bytes) -> None:
    body = OK + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n"
    with raw(lambda client: client.sendall(body)) as url, pytest.raises(FetchError, match="IncompleteRead"):
        get(url)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 404 \x1b[2J\x1b]0;name\x07\r\n\r\n",
        b"\x1b[2J not http\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\x1b[2J\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\xc2\x9b2J\r\n\r\n",
    ],
)
def test_what_a_server_writes_does_not_steer_the_terminal(head: bytes) -> None:
    with raw(lambda client: client.sendall(head)) as url:
        for redirects in (0, 3):
            with pytest.raises(FetchError) as caught:
                get(url, max_redirects=redirects)
            assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "url", ["http://1.1.1.1/\ud800", "http://1.1.1.1/?\udcff", "http://\ud800/", "http://1.1.1.1/\x9b"]
)
def test_half_a_letter_is_no_address(url: str) -> None:
    with pytest.raises(ImageError, match="control characters"):
        load_image(url)


def test_a_machine_without_one_of_the_two_protocols_uses_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = 99  # a family of addresses that no machine knows, as IPv6 where it is switched off
    lookup = socket.getaddrinfo

    def both(*args: object, **kwargs: object) -> list[tuple]:
        found = lookup(*args, **kwargs)  # type: ignore[arg-type]
        return [(missing, *found[0][1:]), *found]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with raw(lambda client: client.sendall(OK + b"Content-Length: 5\r\n\r\nhello")) as url:
        assert get(url) == b"hello"
