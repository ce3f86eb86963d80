"""The mounter's HTTP endpoint: `/metrics` of all its volumes on one page, `/healthz`, `/status`.

Each worker serves its own, at a port of the loopback that the mounter has opened for it. They are asked when
somebody asks here, and told apart by two labels: `source`, and `volume`, which tells apart those who show the
same source by different options or credentials.
"""

import http.client
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from lazyfs.telemetry.listening import listen
from lazyfs_csi.charge import Page

log = logging.getLogger(__name__)

ASKED_AT_ONCE = 8
ANSWER_S = 2.0
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_DESCRIBED = re.compile(r"# (?:HELP|TYPE) (\S+) ")


def merged(texts: Iterable[tuple[Page, str]]) -> str:
    """Return one exposition of several: each family once, its samples with the labels of where they are from.

    Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for page, text in texts:
        labels = f'source="{_escaped(page.source)}",volume="{page.volume}"'
        described: list[str] = []
        samples: list[str] = []
        for line in text.splitlines():
            if found := _DESCRIBED.match(line):
                described, samples = families.setdefault(found[1], ([], []))
                if line not in described:
                    described.append(line)
            elif found := _SAMPLE.match(line):
                more = f",{found[2]}" if found[2] else ""
                samples.append(f"{found[1]}{{{labels}{more}}} {found[3]}")
    return "".join(f"{line}\n" for described, samples in families.values() for line in (*described, *samples))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def ask(page: Page, path: str) -> str | None:
    """Return what a worker says, or None when it does not: it is starting, or being replaced."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        log.debug("worker_silent source=%r why=%r", page.source, str(error))
        return None
    finally:
        connection.close()


class Observed:
    """The endpoint; `pages` says which workers there are now."""

    def __init__(self, address: tuple[str, int], pages: Callable[[], list[Page]]) -> None:
        """Serve at host and port.

        Raises:
            UsageError: when that is not possible.

        """
        listening = listen(address)
        self._pages = pages
        self._threads = ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="asks")
        self._server = ThreadingHTTPServer(address, self._handler(), bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.socket.close()
        self._server.socket = listening
        self.port: int = listening.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True, name="http").start()

    def _said(self, path: str) -> list[tuple[Page, str]]:
        pages = self._pages()
        answers = self._threads.map(ask, pages, [path] * len(pages))
        return [(page, text) for page, text in zip(pages, answers, strict=True) if text is not None]

    def _status(self) -> bytes:
        said = [{"volume": page.volume} | json.loads(text) for page, text in self._said("/status")]
        return json.dumps(said).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served: dict[str, tuple[str, Callable[[], bytes]]] = {
            "/metrics": ("text/plain; version=0.0.4", lambda: merged(self._said("/metrics")).encode()),
            "/status": ("application/json", self._status),
            "/healthz": ("text/plain", lambda: b"ok\n"),
        }

        class Handler(BaseHTTPRequestHandler):
            timeout: ClassVar[float | None] = 10.0

            def do_GET(self) -> None:
                kind, body = served.get(self.path.partition("?")[0], ("", None))
                text = " ".join(served).encode() + b"\n" if body is None else body()
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
                log.debug("http_request line=%r", format % args)

        return Handler

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._threads.shutdown(wait=False)
