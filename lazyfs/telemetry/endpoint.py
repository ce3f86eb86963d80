"""The HTTP endpoint: `/metrics`, `/healthz`, `/readyz`, `/status`; it answers when the mount does not.

`/healthz` proves a real read through the mount. The reading is done by a process of its own: a thread of ours
that waits for our own mount would keep us from dying.
"""

import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from socket import socket
from typing import Any

from lazyfs.telemetry.metrics import METRICS, SECONDS, Meter, Metric
from lazyfs.telemetry.pages import EXPOSITION, JSON, Pages, verdict
from lazyfs.telemetry.status import Status

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
        self._pages = Pages(
            listening,
            {
                "/metrics": lambda: (HTTPStatus.OK, EXPOSITION, exposition(meter)),
                "/status": lambda: (HTTPStatus.OK, JSON, status().to_json().encode() + b"\n"),
                "/readyz": lambda: verdict(None if self.ready else "not mounted yet"),
                "/healthz": lambda: verdict(probe()),
            },
        )
        self.port = self._pages.port

    def close(self) -> None:
        """Stop serving."""
        self._pages.close()


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
