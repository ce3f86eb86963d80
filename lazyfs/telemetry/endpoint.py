"""The HTTP endpoint: `/metrics`, `/healthz`, `/readyz`, `/status`; it answers when the mount does not.

`/healthz` proves a real read through the mount. The reading is done by a process of its own: a thread of ours
that waits for our own mount would keep us from dying.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, ClassVar

from lazyfs.telemetry.metrics import METRICS, SECONDS, Meter, Metric
from lazyfs.telemetry.status import Status

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 2.0


class Probe:
    """Has the mount read, in a thread, with a bound; at most one at a time.

    `read` returns why it did not work, or None.
    """

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None
        self._result: str | None = None

    def __call__(self) -> str | None:
        """Return None when a read works, else why it does not."""
        with self._lock:
            if self._running is None or not self._running.is_alive():
                self._running = threading.Thread(target=self._work, daemon=True, name="healthz")
                self._running.start()
            self._running.join(PROBE_TIMEOUT_S)
            if self._running.is_alive():
                return f"a read through the mount takes longer than {PROBE_TIMEOUT_S:g} s"
            return None if self._result is None else f"a read through the mount failed: {self._result}"

    def _work(self) -> None:
        self._result = self._read()


class Endpoint:
    """The HTTP server of one mount, at a socket that listens already."""

    def __init__(
        self, listening: socket, meter: Meter, status: Callable[[], Status], probe: Callable[[], str | None]
    ) -> None:
        self.ready = False
        self._pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, "text/plain; version=0.0.4", exposition(meter)),
            "/status": lambda: (200, "application/json", status().to_json().encode() + b"\n"),
            "/readyz": lambda: _verdict(None if self.ready else "not mounted yet"),
            "/healthz": lambda: _verdict(probe()),
        }
        self._server = _serving(listening, self._handler())
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True, name="http").start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pages = self._pages

        class Handler(BaseHTTPRequestHandler):
            timeout: ClassVar[float | None] = 10.0

            def do_GET(self) -> None:
                page = pages.get(self.path.partition("?")[0])
                code, kind, body = page() if page else (404, "text/plain", " ".join(pages).encode() + b"\n")
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
                log.debug("http_request line=%r", format % args)

        return Handler

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _serving(listening: socket, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    host, port = listening.getsockname()[:2]
    server = ThreadingHTTPServer((host, port), handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = host, port
    return server


def _verdict(trouble: str | None) -> tuple[int, str, bytes]:
    return (200, "text/plain", b"ok\n") if trouble is None else (503, "text/plain", f"{trouble}\n".encode())


def exposition(meter: Meter) -> bytes:
    """Return all metrics in Prometheus' text format."""
    # Late: it takes a tenth of a second, and most mounts are never asked.
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415
    from prometheus_client.core import HistogramMetricFamily as HistogramFamily  # noqa: PLC0415

    class Collector:
        def collect(self) -> Iterator[Any]:
            values, histograms = meter.counters(), meter.histograms()
            for metric in METRICS:
                labels = [metric.label] if metric.label else []
                if metric.kind == "histogram":
                    yield _filled(
                        HistogramFamily(metric.name, metric.help, labels=labels), metric, histograms
                    )
                    continue
                family: Any = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                    metric.name, metric.help, labels=labels
                )
                samples = dict.fromkeys(metric.values, 0.0)
                samples |= {label: value for (found, label), value in values.items() if found is metric}
                for label, value in (samples or ({} if labels else {"": 0.0})).items():
                    family.add_metric([label] if labels else [], value)
                yield family

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)


def _filled(family: Any, metric: Metric, histograms: dict[Any, Any]) -> Any:
    for (found, label), histogram in histograms.items():
        if found is metric:
            total, buckets = 0, []
            for bound, count in zip((*map(str, SECONDS), "+Inf"), histogram.counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric([label] if metric.label else [], buckets, sum_value=histogram.sum_s)
    return family
