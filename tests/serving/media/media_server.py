"""A server on this machine whose answers go wrong in every way."""

from __future__ import annotations

import http.server
import time
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; keeps what it was asked."""

    asked: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        name, _, value = self.path[1:].partition("/")
        try:
            getattr(self, f"answer_{name}", self.answer_missing)(value)
        except OSError:
            pass  # the client has had enough

    def answer(
        self, body: bytes, status: int = 200, *, length: int | None = -1, **headers: str
    ) -> None:
        """Send a body; `length` is what the header says: -1 the truth, None nothing."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_missing(self, value: str) -> None:
        self.answer(b"no", 404)

    def answer_bytes(self, value: str) -> None:
        self.answer(b"x" * int(value))

    def answer_unsized(self, value: str) -> None:
        self.answer(b"x" * int(value), length=None)

    def answer_redirect(self, value: str) -> None:
        self.answer(b"", 302, Location=value)

    def answer_count(self, value: str) -> None:
        self.answer(b"", 307, Location=f"/count/{int(value) - 1}" if value != "0" else "/bytes/3")

    def answer_short(self, value: str) -> None:
        self.answer(b"xxx", length=9)

    def answer_zipped(self, value: str) -> None:
        self.answer(b"xxx", Content_Encoding="gzip")

    def answer_endless(self, value: str) -> None:
        self.answer(b"", length=None)
        while True:
            self.wfile.write(b"x" * 65536)

    def answer_drip(self, value: str) -> None:
        """A byte at a time: no single read ever waits long."""
        self.answer(b"", length=None)
        while True:
            self.wfile.write(b"x")
            time.sleep(0.02)

    def answer_headers(self, value: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            self.wfile.write(b"x")
            time.sleep(0.02)

    def answer_junk(self, value: str) -> None:
        self.wfile.write(b"this is not http\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        pass  # a client that went away in the middle is what some tests are about
