"""A few HTTP pages, served by threads of their own: what a worker and the CSI mounter are asked by.

Nothing here needs prometheus_client: the mounter has to stay small.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, ClassVar

log = logging.getLogger(__name__)

# The code, the content type, the body.
Answer = tuple[int, str, bytes]

EXPOSITION = "text/plain; version=0.0.4"
JSON = "application/json"
PLAIN = "text/plain"


class Pages:
    """Serves pages at a socket that listens already; an unknown path gets the list of them."""

    def __init__(self, listening: socket, pages: Mapping[str, Callable[[], Answer]]) -> None:
        """`pages` says by path what makes each, in a thread of the server, whenever it is asked for."""
        self._server = _serving(listening, _handler(pages))
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True, name="http").start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def verdict(trouble: str | None) -> Answer:
    """Return the page of a probe: fine, or why not."""
    if trouble is None:
        return HTTPStatus.OK, PLAIN, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, f"{trouble}\n".encode()


def _handler(pages: Mapping[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout: ClassVar[float | None] = 10.0

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            code, kind, body = page() if page else (HTTPStatus.NOT_FOUND, PLAIN, _list(pages))
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
            log.debug("http_request line=%r", format % args)

    return Handler


def _list(pages: Mapping[str, Callable[[], Answer]]) -> bytes:
    return " ".join(pages).encode() + b"\n"


def _serving(listening: socket, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    host, port = listening.getsockname()[:2]
    server = ThreadingHTTPServer((host, port), handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = host, port
    return server
