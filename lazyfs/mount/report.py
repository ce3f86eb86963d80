"""What a mount says of itself: status and gauges, put together from its parts, for any thread that asks."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from lazyfs import __version__
from lazyfs.cache.store import Store
from lazyfs.core.blob import BlockKey
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.ledger import Ledger
from lazyfs.core.manifest import Manifest
from lazyfs.streaming.flight import Flight, Tier
from lazyfs.streaming.loader import BlockLoader
from lazyfs.streaming.warmer import Warmer
from lazyfs.telemetry import metrics
from lazyfs.telemetry.metrics import Meter, Metric
from lazyfs.telemetry.status import Phase, RateMeter, Status

STALLED_S = 15.0
ETA_AFTER_S = 3.0
TEXT_MAX = 500
"""Characters of a text in the status document, which has a fixed size."""


class Reporter:
    """Knows the parts, keeps the few things that only time tells: rates, and when what happened."""

    def __init__(
        self,
        manifest: Manifest,
        mountpoint: Path,
        parts: tuple[BlockLoader, Warmer, Ledger[BlockKey], Store | None],
        meter: Meter,
        started_at_s: float,
    ) -> None:
        self._manifest = manifest
        self._mountpoint = mountpoint
        self._loader, self._warmer, self._ledger, self._store = parts
        self._traffic = self._loader.traffic
        self._meter = meter
        self._started_at_s = started_at_s
        self._rate = RateMeter()
        self._rate_bytes_per_s = 0.0
        self._moved_at_s = time.monotonic()
        self._fetched_bytes = 0.0
        self._needed_bytes = manifest.size_bytes
        self._snapshot = manifest.snapshot_id
        self.ready_after_s: float | None = None
        self.complete_after_s: float | None = None
        self.untuned: tuple[str, ...] = ()
        meter.gauges = self.gauges

    def sample(self) -> None:
        """Take note of progress; call it a few times a second."""
        now_s = time.monotonic()
        # Not only whole blocks: on a slow link many of them land together, long after the last.
        fetched = self._meter.value(metrics.FETCH_BYTES, Tier.NETWORK) + self._traffic.arriving_bytes
        self._rate_bytes_per_s = self._rate.sample(now_s, fetched)
        if fetched != self._fetched_bytes:
            self._fetched_bytes, self._moved_at_s = fetched, now_s
        if self.complete_after_s is None and self._local_bytes >= self._needed_bytes:
            self.complete_after_s = time.time() - self._started_at_s

    @property
    def _local_bytes(self) -> int:
        return self._store.stored_bytes if self._store is not None else self._ledger.landed_bytes

    @property
    def _warm(self) -> bool:
        """Whether the rate has been measured for long enough to foretell anything."""
        return time.time() - self._started_at_s > ETA_AFTER_S

    @property
    def phase(self) -> Phase:
        """Where the mount is in its life."""
        if self._local_bytes >= self._needed_bytes:
            return Phase.COMPLETE
        wanted = self._traffic.flying(Tier.NETWORK) or self._traffic.oldest_wait() is not None
        if wanted and time.monotonic() - self._moved_at_s > STALLED_S:
            return Phase.STALLED
        # Without a store warm-up never ends: it waits for memory.
        resting = self._warmer.exhausted or self._store is None
        return Phase.SERVING if resting and not wanted else Phase.LOADING

    def status(self) -> Status:
        """Return the whole status."""
        meter, store, wait = self._meter, self._store, self._traffic.oldest_wait()
        phase, missing = self.phase, self._needed_bytes - self._local_bytes
        rate = self._rate_bytes_per_s
        return Status(
            phase=phase,
            source=self._manifest.source,
            mountpoint=str(self._mountpoint),
            snapshot=self._snapshot,
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at_s,
            ready_after_s=self.ready_after_s,
            complete_after_s=self.complete_after_s,
            files=len(self._manifest.blobs),
            bytes_needed=self._needed_bytes,
            bytes_local=self._local_bytes,
            bytes_served=int(meter.total(metrics.READ_BYTES)),
            bytes_fetched=int(meter.value(metrics.FETCH_BYTES, Tier.NETWORK)),
            rate_bytes_per_s=rate,
            eta_s=missing / rate if phase is Phase.LOADING and rate > 0 and self._warm else None,
            oldest_wait_s=_waited_s(wait),
            oldest_wait=self._about(wait)[:TEXT_MAX],
            flights=self._traffic.flying(Tier.NETWORK) + self._traffic.flying(Tier.DISK),
            repairs=int(meter.value(metrics.BLOCKS_REPAIRED)),
            declined=int(meter.total(metrics.BLOCKS_DECLINED)),
            errors=int(meter.total(metrics.ERRORS)),
            last_error=self._loader.last_error[:TEXT_MAX],
            memory_bytes=self._ledger.used_bytes,
            memory_budget_bytes=self._ledger.capacity_bytes,
            cache_bytes=store.used_bytes if store else 0,
            cache_budget_bytes=store.capacity_bytes if store else 0,
            untuned=self.untuned,
        )

    def _about(self, flight: Flight | None) -> str:
        """Say what a reader waits for, and why it takes so long if that is known."""
        if flight is None:
            return ""
        name = self._loader.name_of(flight.key)
        text = f"{name} block {flight.key.place} from {flight.tier}"
        return f"{text}, try {flight.attempt + 1}: {self._loader.last_error}" if flight.attempt else text

    def gauges(self) -> Mapping[tuple[Metric, str], float]:
        """Return what is measured at the moment of asking."""
        loader, traffic, store = self._loader, self._traffic, self._store
        fetched = self._meter.value(metrics.FETCH_BYTES, Tier.NETWORK)
        values: dict[tuple[Metric, str], float] = {
            (metrics.CONNECTIONS_LIMIT, ""): traffic.connections_limit,
            (metrics.OLDEST_WAIT, ""): _waited_s(traffic.oldest_wait()),
            (metrics.MEMORY_BYTES, ""): self._ledger.used_bytes,
            (metrics.MEMORY_BUDGET, ""): self._ledger.capacity_bytes,
            (metrics.CACHE_BYTES, ""): store.used_bytes if store else 0,
            (metrics.CACHE_BUDGET, ""): store.capacity_bytes if store else 0,
            (metrics.MODEL_BYTES, ""): self._needed_bytes,
            (metrics.LOCAL_BYTES, ""): self._local_bytes,
            (metrics.AMPLIFICATION, ""): fetched / loader.landed_bytes if loader.landed_bytes else 1.0,
            (metrics.INFO, __version__): 1,
        }
        values |= {(metrics.QUEUE_DEPTH, u.name.lower()): traffic.depth(u) for u in Urgency}
        values |= {(metrics.FLIGHTS, tier): traffic.flying(tier) for tier in (Tier.DISK, Tier.NETWORK)}
        return values


def _waited_s(flight: Flight | None) -> float:
    since_s = flight.waiting_since_s if flight is not None else None
    return 0.0 if since_s is None else time.monotonic() - since_s
