"""A web server on the loopback that can be told to misbehave."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server:
    """Serves ``files`` (path -> bytes) with ranges and ETags; the rest are ways to fail."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        #: path -> the connection breaks after that many bytes of the body, once
        self.break_after: dict[str, int] = {}
        #: status codes to answer next, before anything else
        self.errors: list[int] = []
        self.ranges = True
        #: (path, Range header or None) of every request
        self.requests: list[tuple[str, str | None]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        body = self.files.get(request.path)
        if self.errors or body is None:
            request.send_error(self.errors.pop(0) if self.errors else 404)
            return
        etag = f'"{hash(body)}"'
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                request.end_headers()
                return
        request.send_response(206 if start else 200)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        limit = self.break_after.pop(request.path, None)
        with contextlib.suppress(ConnectionError):  # the client may give up first: a full disk
            request.wfile.write(body[start:] if limit is None else body[start : start + limit])


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()
