"""Small HTTP servers of AWS's kinds: a request as they see it, and what they answer."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import SplitResult, parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What was asked; names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.target)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.url.query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("latin-1")))


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Server:
    """Serves until closed; `answer` says what. What was asked is in `requests`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                server.requests.append(request)
                answer = server.answer(request)
                head = {"Content-Length": str(len(answer.body)), **answer.headers}
                self.send_response(answer.status)
                for name, value in head.items():
                    self.send_header(name, value)
                try:
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(answer.body)
                except ConnectionError:  # who asked has gone
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
