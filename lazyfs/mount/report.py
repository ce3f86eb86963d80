"""What a mount says of itself: status and gauges, put together from its parts, for any thread that asks."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lazyfs import __version__
from lazyfs.cache.store import Store
from lazyfs.core.blob import BlockKey
from lazyfs.core.diskhealth import DiskState
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.ledger import Ledger
from lazyfs.core.manifest import Manifest
from lazyfs.errors import DigestMismatch
from lazyfs.streaming.flight import Flight, Tier
from lazyfs.streaming.loader import BlockLoader
from lazyfs.streaming.warmer import Warmer
from lazyfs.telemetry import metrics
from lazyfs.telemetry.metrics import Meter, Metric
from lazyfs.telemetry.status import Phase, RateMeter, Status

OFF = "off"
"""The state of a cache that nobody wanted."""
STALLED_S = 15.0
ETA_AFTER_S = 3.0
TEXT_MAX = 500
"""Characters of a text in the status document, which has a fixed size."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a worker knows of its mount from the supervisor that started it."""

    mountpoint: Path
    started_at_s: float
    """When the mount began (epoch), not this worker."""
    supervisor: int
    restarts: int
    """How many workers have died before this one."""
    owner: tuple[int, int]
    """User and group who mounted: the files are theirs."""
    first: bool = True
    """Whether nobody has served this mount before."""


class Reporter:
    """Knows the parts, keeps the few things that only time tells: rates, and when what happened."""

    def __init__(
        self,
        manifest: Manifest,
        origin: Origin,
        parts: tuple[BlockLoader, Warmer, Ledger[BlockKey], Store | None],
        meter: Meter,
        needed_bytes: int | None = None,
    ) -> None:
        """`needed_bytes` are those of the snapshot without duplicates, if there are some."""
        self._manifest = manifest
        self._origin = origin
        self._loader, self._warmer, self._ledger, self._store = parts
        self._traffic = self._loader.traffic
        self._meter = meter
        self.first = origin.first
        self._started_at_s = origin.started_at_s
        self._rate = RateMeter()
        self._rate_bytes_per_s = 0.0
        self.moved_at_s = time.monotonic()
        """When something last came from the network (monotonic)."""
        self._fetched_bytes = 0.0
        self._needed_bytes = manifest.size_bytes if needed_bytes is None else needed_bytes
        self._snapshot = manifest.snapshot_id
        self.ready_after_s: float | None = None
        self.complete_after_s: float | None = None
        self.untuned: tuple[str, ...] = ()
        self.no_cache_why = ""
        """Why there is no store though one was wanted."""
        self._mismatch = ""
        meter.gauges = self.gauges

    def mismatched(self, inode: int) -> None:
        """Hear that a file is not what its publisher says; it stays what the status says of errors."""
        name = self._loader.name_of(BlockKey(inode, 0))
        error = DigestMismatch(
            f"{name} is not what its publisher says", "tell the publisher, or publish it again"
        )
        self._meter.add(metrics.ERRORS, label=error.kind())
        self._mismatch = str(error)

    def sample(self) -> None:
        """Take note of progress; call it a few times a second."""
        now_s = time.monotonic()
        # Not only whole blocks: on a slow link many of them land together, long after the last.
        fetched = self._meter.value(metrics.FETCH_BYTES, Tier.NETWORK) + self._traffic.arriving_bytes
        self._rate_bytes_per_s = self._rate.sample(now_s, fetched)
        if fetched != self._fetched_bytes:
            self._fetched_bytes, self.moved_at_s = fetched, now_s
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
        under_way = self._traffic.flying(Tier.NETWORK) or self._loader.keeper.unsettled
        wanted = under_way or self._traffic.oldest_wait() is not None
        in_trouble = self._warmer.resting or self._loader.breakers.down
        # Without a store warm-up never ends: it waits for memory.
        left = not self._warmer.exhausted and (self._store is not None or in_trouble)
        if not wanted and not left:
            return Phase.SERVING
        if time.monotonic() - self.moved_at_s <= STALLED_S:
            return Phase.LOADING
        # Where nothing is wrong warm-up waits for room, until somebody reads what is here.
        return Phase.STALLED if wanted or in_trouble else Phase.SERVING

    @property
    def _cache(self) -> tuple[str, str]:
        """The state of the cache's disk, and why."""
        if self._store is not None:
            return self._store.health.look()
        return (DiskState.BYPASS, self.no_cache_why) if self.no_cache_why else (OFF, "")

    def status(self) -> Status:
        """Return the whole status."""
        meter, store, wait = self._meter, self._store, self._traffic.oldest_wait()
        phase, missing = self.phase, self._needed_bytes - self._local_bytes
        rate = self._rate_bytes_per_s
        cache_state, cache_why = self._cache
        return Status(
            phase=phase,
            source=self._manifest.source,
            sources=tuple(part.source for part in self._manifest.parts) or (self._manifest.source,),
            mountpoint=str(self._origin.mountpoint),
            snapshot=self._snapshot,
            version=__version__,
            pid=self._origin.supervisor,
            worker_pid=os.getpid(),
            restarts=self._origin.restarts,
            started_at=self._started_at_s,
            ready_after_s=self.ready_after_s,
            complete_after_s=self.complete_after_s,
            files=len(self._manifest.blobs),
            files_verified=store.verified_count if store else 0,
            bytes_needed=self._needed_bytes,
            bytes_local=self._local_bytes,
            bytes_served=int(meter.total(metrics.READ_BYTES)),
            bytes_fetched=int(meter.value(metrics.FETCH_BYTES, Tier.NETWORK)),
            rate_bytes_per_s=rate,
            eta_s=missing / rate if phase is Phase.LOADING and rate > 0 and self._warm else None,
            oldest_wait_s=wait.waited_s if wait is not None else 0.0,
            oldest_wait=self._about(wait.flight if wait is not None else None)[:TEXT_MAX],
            flights=self._traffic.flying(Tier.NETWORK) + self._traffic.flying(Tier.DISK),
            repairs=int(meter.value(metrics.BLOCKS_REPAIRED)),
            declined=int(meter.total(metrics.BLOCKS_DECLINED)),
            errors=int(meter.total(metrics.ERRORS)),
            last_error=(self._mismatch or self._loader.last_error)[:TEXT_MAX],
            memory_bytes=self._ledger.used_bytes,
            memory_budget_bytes=self._ledger.capacity_bytes,
            cache_bytes=store.used_bytes if store else 0,
            cache_budget_bytes=store.capacity_bytes if store else 0,
            cache_state=cache_state,
            cache_why=cache_why[:TEXT_MAX],
            untuned=self.untuned,
        )

    def progress(self) -> dict[str, int]:
        """Return how much of the model there is, and how much of it is here: files and bytes."""
        return {"files": len(self._manifest.blobs), "needed": self._needed_bytes, "local": self._local_bytes}

    def _about(self, flight: Flight | None) -> str:
        """Say what a reader waits for, and why it takes so long if that is known."""
        if flight is None:
            return ""
        name = self._loader.name_of(flight.key)
        text = f"{name} block {flight.key.place} from {flight.tier}"
        if flight.attempt:
            text = f"{text}, try {flight.attempt + 1}: {self._loader.last_error}"
        if flight.host in self._loader.breakers.down:
            text = f"{text}; {flight.host} is down: one request at a time tries it"
        return text

    def gauges(self) -> Mapping[tuple[Metric, str], float]:
        """Return what is measured at the moment of asking."""
        loader, traffic, store = self._loader, self._traffic, self._store
        wait = traffic.oldest_wait()
        fetched, landed = self._meter.value(metrics.FETCH_BYTES, Tier.NETWORK), loader.keeper.landed_bytes
        values: dict[tuple[Metric, str], float] = {
            (metrics.CONNECTIONS_LIMIT, ""): traffic.connections_limit,
            (metrics.HOSTS_DOWN, ""): len(loader.breakers.down),
            (metrics.OLDEST_WAIT, ""): wait.waited_s if wait is not None else 0.0,
            (metrics.MEMORY_BYTES, ""): self._ledger.used_bytes,
            (metrics.MEMORY_BUDGET, ""): self._ledger.capacity_bytes,
            (metrics.CACHE_BYTES, ""): store.used_bytes if store else 0,
            (metrics.CACHE_BUDGET, ""): store.capacity_bytes if store else 0,
            (metrics.MODEL_BYTES, ""): self._needed_bytes,
            (metrics.LOCAL_BYTES, ""): self._local_bytes,
            (metrics.VERIFIED_BYTES, ""): store.verified_bytes if store else 0,
            (metrics.AMPLIFICATION, ""): fetched / landed if landed else 1.0,
            (metrics.RESTARTS, ""): self._origin.restarts,
            (metrics.INFO, __version__): 1,
        }
        values |= {(metrics.QUEUE_DEPTH, u.name.lower()): traffic.depth(u) for u in Urgency}
        values |= {(metrics.FLIGHTS, tier): traffic.flying(tier) for tier in (Tier.DISK, Tier.NETWORK)}
        values |= {(metrics.CACHE_STATE, state): 0.0 for state in metrics.CACHE_STATE.values}
        values[metrics.CACHE_STATE, self._cache[0]] = 1
        if store is not None:
            values |= {(metrics.CACHE_ERRORS, deed): count for deed, count in store.health.errors.items()}
        return values
