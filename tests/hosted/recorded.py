"""A real HTTP server on the loopback address that plays recorded answers, byte for byte.

What an answer looks like is what the hosted queue was seen, or is documented, to send.
"""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.serving import answering

APP = "fal-ai/fast-svd-lcm"
ID = "2b1c9d7e-5a04-4c35-9a77-1f6b1c0f8f10"
BREAK = b""  # the connection is closed without an answer
HANG = b"..."  # it stays open without one
NGINX = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><hr><center>nginx</center></body></html>\r\n"


def answer(status: int, body: Any, **headers: str) -> bytes:
    """An HTTP answer as it goes over the wire."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if data.startswith(b"<html") else "application/json"
    head = {"Content-Type": kind, "Content-Length": str(len(data)), "Connection": "close", **headers}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name.replace('_', '-')}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


class Recorded(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers in the order in which they were given for a method and path; the last one for ever.

    Attributes:
        seen: (method, path without query, headers, body) of every request, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self._answers: dict[tuple[str, str], list[bytes]] = {}
        self._lock = threading.Lock()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def play(self, method: str, path: str, *answers: bytes) -> None:
        self._answers[method, path] = list(answers)

    def job(self, *statuses: bytes, result: bytes | None = None, submit: tuple[bytes, ...] = ()) -> None:
        """Play a job: how submission is answered, every look at it, and the result (a clip of `video.mp4`)."""
        base = f"/queue/{APP}/requests/{ID}"
        self.play("POST", f"/queue/{APP}", *(submit or (self.taken(),)))
        self.play("GET", f"{base}/status", *(statuses or (self.completed(),)))
        self.play("GET", base, result or self.done())
        self.play("PUT", f"{base}/cancel", answer(202, {"status": "CANCELLATION_REQUESTED"}))

    def taken(self) -> bytes:
        where = f"https://queue.fal.run/{APP}/requests/{ID}"  # not where this server is: the key must not go there
        urls = {"response_url": where, "status_url": f"{where}/status", "cancel_url": f"{where}/cancel"}
        return answer(200, {"status": "IN_QUEUE", "request_id": ID, "queue_position": 0, **urls})

    def queued(self, position: int) -> bytes:
        return answer(202, {"status": "IN_QUEUE", "request_id": ID, "queue_position": position})

    def running(self, *lines: str) -> bytes:
        logs = [
            {"message": line, "level": "INFO", "source": "USER", "timestamp": "2026-02-17T10:30:01Z"} for line in lines
        ]
        return answer(202, {"status": "IN_PROGRESS", "request_id": ID, "logs": logs})

    def completed(self, *lines: str, **more: Any) -> bytes:
        logs = [
            {"message": line, "level": "INFO", "source": "USER", "timestamp": "2026-02-17T10:30:01Z"} for line in lines
        ]
        body = {"status": "COMPLETED", "request_id": ID, "logs": logs, "metrics": {"inference_time": 3.42}, **more}
        return answer(200, body)

    def done(self, seed: int = 42, url: str | None = None) -> bytes:
        file = {"url": url or f"{self.url}/files/video.mp4", "content_type": "video/mp4", "file_name": "video.mp4"}
        return answer(200, {"video": {**file, "file_size": 20_000}, "seed": seed}, x_fal_request_id=ID)

    def count(self, method: str, path: str) -> int:
        return sum((method, path) == (seen[0], seen[1]) for seen in self.seen)

    @property
    def submissions(self) -> list[dict[str, Any]]:
        return [json.loads(body) for method, path, _, body in self.seen if (method, path) == ("POST", f"/queue/{APP}")]

    @property
    def cancelled(self) -> int:
        return self.count("PUT", f"/queue/{APP}/requests/{ID}/cancel")

    def _next(self, method: str, path: str) -> bytes:
        with self._lock:
            answers = self._answers.get((method, path))
            if answers is None:
                return answer(404, {"detail": f"Path {path} not found"})
            return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Recorded

    def _play(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}, body))
        said = self.server._next(self.command, path)
        if said == HANG:
            self.server.over.wait(60)
        else:
            self.wfile.write(said)
        self.close_connection = True

    do_GET = do_POST = do_PUT = _play  # noqa: N815 - names of http.server

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent."""


@contextmanager
def serving() -> Iterator[Recorded]:
    """A server while the block runs."""
    with answering(Recorded()) as server:
        try:
            yield server
        finally:
            server.over.set()
