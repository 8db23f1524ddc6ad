"""The guarded fetch, against a real server on the loopback address. Nothing here connects to any other address."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from svdlab.errors import SvdlabError
from svdlab.fetch import FetchError, fetch, is_public
from tests.serving import answering

BODY = bytes(range(256)) * 40
REAL_CONNECT = socket.socket.connect
REAL_LOOKUP = socket.getaddrinfo


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        name = self.path.split("?")[0].strip("/").replace("-", "_")
        with contextlib.suppress(ConnectionError):
            getattr(self, f"_{name}", self._missing)()

    def _send(self, status: int = 200, body: bytes = BODY, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _missing(self) -> None:
        self._send(404, b"nothing")

    def _plain(self) -> None:
        self._send()

    def _unannounced(self) -> None:
        self._send(Content_Length="", Connection="close")

    def _chunked(self) -> None:
        self._send(Content_Length="", Transfer_Encoding="chunked", body=b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")

    def _chunked_short(self) -> None:
        self._send(Content_Length="", Transfer_Encoding="chunked", body=b"5\r\nhello\r\n6\r\n wo")
        self.close_connection = True

    def _short(self) -> None:
        self._send(Content_Length=str(len(BODY) + 7))
        self.close_connection = True

    def _zipped(self) -> None:
        self._send(Content_Encoding="gzip")

    def _round(self) -> None:
        self._send(302, b"", Location="/round")

    def _once(self) -> None:
        self._send(307, b"", Location="plain?a=1")

    def _nowhere(self) -> None:
        self._send(302, b"")

    def _wrong(self) -> None:
        self._send(302, b"", Location="http://[::1/")

    def _to_file(self) -> None:
        self._send(302, b"", Location="file:///etc/hostname")

    def _to_inside(self) -> None:
        self._send(302, b"", Location="http://169.254.169.254/latest/meta-data")

    def _to_http(self) -> None:
        self._send(302, b"", Location=f"http://localhost:{self.server.server_port}/plain")

    def _garbage(self) -> None:
        self.wfile.write(b"\x00\x01 not http at all\r\n\r\n")
        self.close_connection = True

    def _drip_head(self) -> None:
        for _ in range(100):
            self.wfile.write(b"H")
            time.sleep(0.05)

    def _drip_body(self) -> None:
        self._send(body=b"", Content_Length="1000")
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(certificate: tuple[str, str] | None = None) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that leaves early is what some tests are about
    server.seen, server.names = [], []
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        context.sni_callback = lambda _sock, name, _context: server.names.append(name)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with answering(server):
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Every address that a test connects to; any but loopback ends the test."""
    addresses: list[tuple] = []

    def connect(self: socket.socket, address: tuple) -> None:
        addresses.append(address)
        assert address[0] in ("127.0.0.1", "::1"), f"a test tried to reach {address}"
        REAL_CONNECT(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return addresses


def names(monkeypatch: pytest.MonkeyPatch, **hosts: list[str]) -> list[str]:
    """Let a name server know these hosts (dots written as underscores); returns the list of its questions."""
    asked: list[str] = []

    def lookup(host: str, port: int, *args: object, **kwargs: object) -> list[tuple]:
        asked.append(host)
        known = hosts[host.replace(".", "_")]
        return [answer for address in known for answer in REAL_LOOKUP(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def url(server: http.server.ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_port}/{path}"


def get(address: str, **settings: object) -> bytes:
    return fetch(address, **{"max_bytes": 100_000, "seconds": 5, "allow_private": True, **settings})


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1",
        "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]", "[::]",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "169.254.169.254", "10.1.2.3",
        "192.168.0.1", "100.64.0.1", "224.0.0.1", "１２７.０.０.１", "127。0。0。1",  # noqa: RUF001
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_spelling_of_a_private_host_gets_a_connection(scheme: str, host: str, connected: list) -> None:
    with pytest.raises(FetchError, match="not an address on the public internet") as caught:
        fetch(f"{scheme}://{host}/x.png", max_bytes=10, seconds=5)
    assert "allow_private_urls=True" in str(caught.value)
    assert connected == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    monkeypatch: pytest.MonkeyPatch, connected: list
) -> None:
    names(monkeypatch, pictures_test=["8.8.8.8", "10.0.0.1"])
    with pytest.raises(FetchError, match=r"pictures\.test/x\.png leads to 10\.0\.0\.1"):
        fetch("http://pictures.test/x.png", max_bytes=10, seconds=5)
    assert connected == []


def test_the_checked_address_is_the_one_connected_to(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = names(monkeypatch, pictures_test=["8.8.8.8"])
    reached: list[tuple] = []

    def connect(self: socket.socket, address: tuple) -> None:  # the whole internet is on loopback here
        reached.append(address)
        REAL_CONNECT(self, ("127.0.0.1", server.server_port))

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert fetch(f"http://pictures.test:{server.server_port}/plain", max_bytes=100_000, seconds=5) == BODY
    assert asked == ["pictures.test"]  # one question only: a second answer could differ
    assert reached == [("8.8.8.8", server.server_port)]
    assert server.seen[-1][1]["Host"] == f"pictures.test:{server.server_port}"

    names(monkeypatch, pictures_test=["8.8.8.8"], **{"169_254_169_254": ["169.254.169.254"]})
    with pytest.raises(FetchError, match=r"leads to 169\.254\.169\.254"):  # redirects are checked by the same rule
        fetch(f"http://pictures.test:{server.server_port}/to-inside", max_bytes=100_000, seconds=5)
    assert [address for address, _ in reached] == ["8.8.8.8", "8.8.8.8"]


# ---------------------------------------------------------------- forms of an address


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ftp://example.test/x", "only http and https"),
        ("file:///etc/hostname", "only http and https"),
        ("example.test/x.png", "only http and https"),
        ("http://user:secret@example.test/x", "user name or password"),
        ("http://example.test@127.0.0.1/x", "user name or password"),
        ("http://:80/x", "no usable host"),
        ("http:///x", "no usable host"),
        ("http://./x", "no usable host"),
        (f"http://{'a' * 64}.test/x", "no usable host"),
        ("http://example.test:99999/", "not a web address"),
        ("http://example.test:x/", "not a web address"),
        ("http://[::1/", "not a web address"),
        ("http://example.test/a b", "blanks"),
        ("http://example.test/a\nHost: b", "blanks"),
        ("http://example.test\\@127.0.0.1/", "backslashes"),
        ("http://example.test:22/", "port 22"),
        ("http://example.test:25/", "port 25"),
    ],
)
def test_refused_forms(address: str, says: str, connected: list) -> None:
    with pytest.raises(FetchError, match=says) as caught:
        fetch(address, max_bytes=10, seconds=5)
    assert "secret" not in str(caught.value)
    assert connected == []


def test_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: object, **__: object) -> list:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(FetchError, match=r"nowhere\.test/x\.png: the host cannot be found .*Name or service not known"):
        get("http://nowhere.test/x.png")


def test_a_host_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, bare_test=[])
    with pytest.raises(FetchError, match=r"bare\.test/: the host has no address"):
        get("http://bare.test/")


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: wait.wait(20))
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"within 0\.2 s"):
        get("http://slow.test/", seconds=0.2)
    assert time.monotonic() - start < 5
    wait.set()


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("path", ["plain", "unannounced", "once", "plain?signature=a%2Fb&x=[1]", "plain#part"])
def test_whole_body(server: http.server.ThreadingHTTPServer, path: str) -> None:
    assert get(url(server, path)) == BODY
    assert get(url(server, path), max_bytes=len(BODY)) == BODY
    seen_path, headers = server.seen[-1]
    assert seen_path == {"once": "/plain?a=1"}.get(path, "/" + path.split("#")[0])
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Connection"] == "close"
    assert headers["User-Agent"].startswith("svdlab/")


def test_chunks(server: http.server.ThreadingHTTPServer) -> None:
    assert get(url(server, "chunked")) == b"hello world"


def test_letters_beyond_ascii_are_quoted(server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(FetchError, match="404"):
        get(url(server, "bücher?q=ä"))
    assert server.seen[-1][0] == "/b%C3%BCcher?q=%C3%A4"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nothing-here?token=secret", "nothing-here answered 404 Not Found"),
        ("short", "7 bytes early"),
        ("chunked-short", "IncompleteRead"),
        ("zipped", "'gzip'-encoded"),
        ("garbage", "BadStatusLine"),
        ("round", "more than 3 redirects"),
        ("nowhere", "without saying where"),
        ("wrong", "no address"),
        ("to-file", "only http and https"),
    ],
)
def test_answers_that_are_refused(server: http.server.ThreadingHTTPServer, path: str, says: str) -> None:
    with pytest.raises(FetchError, match=says) as caught:
        get(url(server, path), max_redirects=3)
    assert isinstance(caught.value, SvdlabError)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["plain", "unannounced"])
def test_too_large(server: http.server.ThreadingHTTPServer, path: str) -> None:
    with pytest.raises(FetchError, match=f"larger than the {len(BODY) - 1} bytes"):
        get(url(server, path), max_bytes=len(BODY) - 1)


@pytest.mark.parametrize("path", ["drip-head", "drip-body"])
def test_time_is_limited_in_all_and_not_by_the_byte(server: http.server.ThreadingHTTPServer, path: str) -> None:
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"did not answer in full within 0\.3 s"):
        get(url(server, path), seconds=0.3)
    assert time.monotonic() - start < 3


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        with pytest.raises(FetchError, match="ConnectionRefusedError"):
            get(f"http://127.0.0.1:{free.getsockname()[1]}/")


def test_the_next_address_is_tried(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, connected: list
) -> None:
    names(monkeypatch, two_test=["::1", "127.0.0.1"])
    assert get(url(server, "plain", host="two.test")) == BODY
    assert [address for address, *_ in connected] == ["::1", "127.0.0.1"]


# ---------------------------------------------------------------- https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for the name localhost, made now so that no key lies in the repository."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=DNS:localhost", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run([openssl, *command.split(), *extra, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_https_checks_the_certificate_against_the_name(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch, connected: list
) -> None:
    with serving(certificate) as server:
        address = f"https://localhost:{server.server_port}"
        with pytest.raises(FetchError, match=r"certificate refused \(self.signed certificate"):
            get(f"{address}/plain")

        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])  # from here on it is trusted
        assert get(f"{address}/plain") == BODY
        assert server.names[-1] == "localhost"
        assert server.seen[-1][1]["Host"] == f"localhost:{server.server_port}"

        with pytest.raises(FetchError, match=r"certificate refused \(.*IP address mismatch"):
            get(f"https://127.0.0.1:{server.server_port}/plain")

        names(monkeypatch, pictures_test=["127.0.0.1"], localhost=["127.0.0.1"])
        with pytest.raises(FetchError, match=r"certificate refused \(Hostname mismatch"):
            get(f"https://pictures.test:{server.server_port}/plain")
        assert server.names[-1] == "pictures.test"

        with pytest.raises(FetchError, match=r"leads from https to http://localhost.* refused"):
            get(f"{address}/to-http")


def test_https_to_a_server_that_speaks_http(server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(FetchError, match="SSLError"):
        get(f"https://127.0.0.1:{server.server_port}/plain")
