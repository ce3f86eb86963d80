"""Every metric there is, declared here and nowhere else, and the counters behind them.

Counting is a dictionary update on the trio thread; the Prometheus client is only imported when somebody asks
for `/metrics` (`telemetry.endpoint`): its import alone takes a tenth of a second.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's name, kind (`counter`, `gauge`, `histogram`), help, and its one label if it has one.

    `values` are those the label is known to take: they are shown as zero before the first event, so that
    rates and alerts see it.
    """

    name: str
    kind: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ()


TIERS = ("memory", "disk", "network")

READ_BYTES = Metric(
    "lazyfs_read_bytes_total", "counter", "Bytes handed to readers, by where they were", "tier", TIERS
)
READ_SECONDS = Metric(
    "lazyfs_read_seconds", "histogram", "Time a read request waited, by where its bytes were", "tier"
)
FETCH_BYTES = Metric("lazyfs_fetch_bytes_total", "counter", "Bytes fetched, by tier", "tier", TIERS[1:])
FETCH_REQUESTS = Metric(
    "lazyfs_fetch_requests_total", "counter", "Blocks asked for, by tier", "tier", TIERS[1:]
)
FETCH_SECONDS = Metric(
    "lazyfs_fetch_seconds", "histogram", "Time to fetch one block, by tier", "tier", TIERS[1:]
)
FIRST_BYTE_SECONDS = Metric(
    "lazyfs_first_byte_seconds", "histogram", "Time from a request to the first byte of the reply"
)
ERRORS = Metric("lazyfs_errors_total", "counter", "Failed requests to source or store, by kind", "kind")
READ_ERRORS = Metric("lazyfs_read_errors_total", "counter", "Reads that ended with an error, by kind", "kind")
RETRIES = Metric("lazyfs_retries_total", "counter", "Requests sent again after a passing error")
HEDGES = Metric("lazyfs_hedges_total", "counter", "Second requests, because the first were late for a reader")
HEDGES_WON = Metric("lazyfs_hedges_won_total", "counter", "Second requests that overtook the first")
BLOBS_CHANGED = Metric("lazyfs_blobs_changed_total", "counter", "Objects that changed after they were pinned")
DIGEST_MISMATCHES = Metric(
    "lazyfs_digest_mismatches_total", "counter", "Files that are not what their publisher's digest says"
)
BLOCKS_REPAIRED = Metric(
    "lazyfs_blocks_repaired_total",
    "counter",
    "Damaged blocks of the cache that were fetched again, and other damaged files of it that were mended",
)
BLOCKS_DECLINED = Metric(
    "lazyfs_blocks_declined_total",
    "counter",
    "Blocks that were served and not stored, by reason",
    "reason",
    ("over_budget", "disk_trouble", "memory"),
)
CACHE_ERRORS = Metric(
    "lazyfs_cache_errors_total",
    "counter",
    "How often the disk of the cache failed, or did not answer in time, by what it was asked",
    "what",
    ("writing", "reading"),
)
RANGES_IGNORED = Metric(
    "lazyfs_ranges_ignored_total", "counter", "Replies with the whole object instead of the range"
)

QUEUE_DEPTH = Metric("lazyfs_queue_depth", "gauge", "Blocks waiting for a lane, by urgency", "urgency")
FLIGHTS = Metric("lazyfs_flights", "gauge", "Blocks being fetched now, by tier", "tier", TIERS[1:])
CONNECTIONS_LIMIT = Metric(
    "lazyfs_connections_limit", "gauge", "How many requests may be in flight ahead of readers now"
)
HOSTS_DOWN = Metric(
    "lazyfs_hosts_down", "gauge", "Hosts that are down: requests to them are held, one at a time tries"
)
OLDEST_WAIT = Metric("lazyfs_oldest_wait_seconds", "gauge", "How long the longest waiting reader has waited")
MEMORY_BYTES = Metric("lazyfs_memory_bytes", "gauge", "Bytes of blocks in memory")
MEMORY_BUDGET = Metric("lazyfs_memory_budget_bytes", "gauge", "The budget for blocks in memory")
CACHE_BYTES = Metric("lazyfs_cache_bytes", "gauge", "Bytes in the cache directory")
CACHE_BUDGET = Metric("lazyfs_cache_budget_bytes", "gauge", "The budget of the cache directory")
CACHE_STATE = Metric(
    "lazyfs_cache_state",
    "gauge",
    "1 for the state of the disk of the cache",
    "state",
    ("healthy", "degraded", "probing", "bypass", "off"),
)
MODEL_BYTES = Metric("lazyfs_model_bytes", "gauge", "Bytes of the mounted snapshot, without duplicates")
LOCAL_BYTES = Metric("lazyfs_local_bytes", "gauge", "Bytes of them that are on this node")
VERIFIED_BYTES = Metric(
    "lazyfs_verified_bytes", "gauge", "Bytes of files that were found to have their publisher's digest"
)
AMPLIFICATION = Metric(
    "lazyfs_read_amplification_ratio", "gauge", "Bytes fetched from the source over the bytes of those blocks"
)
RESTARTS = Metric(
    "lazyfs_worker_restarts_total", "counter", "Processes that served this mount and died; others took over"
)
INFO = Metric("lazyfs_info", "gauge", "1; the version is in the label", "version")

METRICS = tuple(value for value in globals().values() if isinstance(value, Metric))


class Histogram:
    """Observations in seconds, counted by bucket (`SECONDS`)."""

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds


class Meter:
    """The counters of one mount. Written on the trio thread only; read from anywhere."""

    def __init__(self) -> None:
        self._counters: defaultdict[tuple[Metric, str], float] = defaultdict(float)
        self._histograms: defaultdict[tuple[Metric, str], Histogram] = defaultdict(Histogram)
        self.gauges: Callable[[], Mapping[tuple[Metric, str], float]] = dict

    def add(self, metric: Metric, amount: float = 1, label: str = "") -> None:
        """Count."""
        self._counters[metric, label] += amount

    def observe(self, metric: Metric, seconds: float, label: str = "") -> None:
        """Put a duration into a histogram."""
        self._histograms[metric, label].observe(seconds)

    def value(self, metric: Metric, label: str = "") -> float:
        """Return a counter."""
        return self._counters.get((metric, label), 0.0)

    def total(self, metric: Metric) -> float:
        """Return a counter summed over its labels."""
        return sum(value for (found, _), value in list(self._counters.items()) if found is metric)

    def counters(self) -> dict[tuple[Metric, str], float]:
        """Return a copy of all counters and gauges."""
        return {**self._counters, **self.gauges()}

    def histograms(self) -> dict[tuple[Metric, str], Histogram]:
        """Return all histograms."""
        return dict(self._histograms)
