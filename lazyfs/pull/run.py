"""A pull from beginning to end: what is wanted, what is there, whether there is room, and what came of it."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import trio

from lazyfs.cache.reading import StoredBlocks
from lazyfs.config import PullOptions, default_cache_dir
from lazyfs.core.blob import BlockKey, Grid
from lazyfs.core.ledger import Ledger
from lazyfs.core.manifest import Manifest
from lazyfs.core.memorybudget import budget_bytes
from lazyfs.core.wholeplan import WholePlan
from lazyfs.errors import TargetUnusable, UsageError
from lazyfs.mount.loading import Loading, connections_of, limits_of, wire
from lazyfs.mount.memory import limit_bytes
from lazyfs.mount.snapshot import connect
from lazyfs.pull.claims import take_whole
from lazyfs.pull.destination import Destination, unusable
from lazyfs.pull.ending import until_signal
from lazyfs.pull.pace import PacedWarmer
from lazyfs.pull.parts import Parts
from lazyfs.pull.session import Material, Session
from lazyfs.pull.spooling import meanwhile, spooled_bytes
from lazyfs.pull.watching import Show, watch
from lazyfs.sources import Source
from lazyfs.streaming.fetcher import Blobs
from lazyfs.streaming.flight import Tier
from lazyfs.telemetry.status import bytes_text

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pull has brought: bytes of the whole, and where they were."""

    files: int
    size_bytes: int
    kept_bytes: int
    """In place already."""
    found_bytes: int
    """Left unfinished by an earlier pull."""
    cache_bytes: int
    network_bytes: int
    verified: int
    """Files that were compared with their publisher's digest, now or when they came; others have none."""
    seconds: float


def pull(address: str, directory: Path, options: PullOptions, show: Show) -> Outcome:
    """Have every file of a source in a directory, and right.

    Raises:
        TargetUnusable: when the directory cannot be used, or has no room.
        DigestMismatch: when a file is not what its publisher says; all others are in place then.
        Ended: when a signal ended it.
        LazyfsError: whatever the source raises; what has come is kept for the next pull.

    """
    began_s = time.monotonic()
    source = connect(address, options)
    try:
        manifest = take_whole(source, address, options)
        destination = Destination(directory)
        try:
            work = _Work(source, manifest, destination, options)
            work.do(show)
            outcome = work.outcome(began_s)
        finally:
            destination.close()
    finally:
        source.close()
    log.info(
        "pulled bytes=%d network=%d cache=%d found=%d kept=%d seconds=%.2f",
        outcome.size_bytes, outcome.network_bytes, outcome.cache_bytes, outcome.found_bytes,
        outcome.kept_bytes, outcome.seconds,
    )  # fmt: skip
    return outcome


class _Work:
    """One pull, put together."""

    def __init__(
        self, source: Source, manifest: Manifest, destination: Destination, options: PullOptions
    ) -> None:
        self._source, self._manifest, self._options = source, manifest, options
        self._destination = destination
        grid = Grid(options.block_size)
        by_inode = {inode: node.blob for inode, node in manifest.nodes().items() if node.blob is not None}
        self._blobs = Blobs(by_inode, grid)
        parts = Parts(destination.parts, grid, by_inode, direct=destination.direct)
        cache = StoredBlocks(_cache_dir(options), grid, by_inode)
        self._material = Material(destination, parts, cache)
        self._plan = WholePlan(by_inode, grid)
        self._session = Session(self._blobs, self._material, self._plan)
        self._loading: Loading | None = None

    def do(self, show: Show) -> None:
        """Bring what is missing.

        Raises:
            LazyfsError: see `pull`.

        """
        wanted, doubtful = self._sort()
        if wanted or doubtful:
            self._make_room(wanted)
            self._loading = self._wired()
            trio.run(self._run, self._loading, wanted, doubtful, show)
        if self._session.error is not None:
            raise self._session.error
        if self._session.mismatches:
            raise self._session.mismatches[0]
        if not self._options.include and not self._options.exclude:
            self._destination.tidy()

    def _wired(self) -> Loading:
        options, deposit = self._options, self._session.deposit
        memory = budget_bytes(limit_bytes(), options.memory, connections_of(options), options.block_size)
        limits = limits_of(options)
        warmer = PacedWarmer(self._plan, deposit.has, limits.concurrency)
        ledger: Ledger[BlockKey] = Ledger(memory)
        parts = self._destination.parts
        loading = wire(self._blobs, self._source.locate, deposit, warmer, ledger, limits, parts)
        assert loading.writer is not None
        traffic, writer = loading.loader.traffic, loading.writer
        warmer.under_way = lambda: traffic.flying(Tier.NETWORK) + writer.unsettled
        return loading

    def _sort(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the files to bring, and those whose digest must tell; take note of those in place."""
        wanted, doubtful = [], []
        for inode in self._plan.order:
            blob = self._blobs.by_inode[inode]
            if self._destination.recorded(blob):
                self._session.kept_bytes += blob.size_bytes
                self._plan.give_up(inode)
            elif self._destination.resembles(blob):
                doubtful.append(inode)
                self._plan.give_up(inode)
            else:
                wanted.append(inode)
        return tuple(wanted), tuple(doubtful)

    def _make_room(self, wanted: tuple[int, ...]) -> None:
        parts, cache = self._material.parts, self._material.cache
        try:
            self._destination.require_places(self._blobs.by_inode.values())
            for inode in wanted:
                parts.look(inode)
                cache.look(inode)
            blobs = [self._blobs.by_inode[inode] for inode in wanted]
            missing = sum(blob.size_bytes for blob in blobs) - sum(map(parts.stored_bytes, wanted))
            free = self._destination.free_bytes()
            incomplete = [blob for inode, blob in zip(wanted, blobs, strict=True) if not self._has(inode)]
            spooled = spooled_bytes(self._source, self._manifest.source, incomplete)
            if missing + spooled > free:
                raise TargetUnusable(
                    f"{self._destination.root} has {bytes_text(free)} free, "
                    f"and {bytes_text(missing)} are to come{meanwhile(spooled)}",
                    "free some space, leave files out with --exclude, or choose another DIR",
                )
            self._destination.make_directories(self._blobs.by_inode.values())
        except OSError as error:
            raise unusable(self._destination.root, error) from None
        log.info(
            "pull_began source=%r dir=%r files=%d bytes=%d missing=%d free=%d",
            self._manifest.source, str(self._destination.root), len(self._manifest.blobs),
            self._manifest.size_bytes, missing, free,
        )  # fmt: skip

    def _has(self, inode: int) -> bool:
        """Tell whether an earlier pull has left all of a file."""
        return self._material.parts.stored_bytes(inode) == self._blobs.by_inode[inode].size_bytes

    async def _run(
        self, loading: Loading, wanted: tuple[int, ...], doubtful: tuple[int, ...], show: Show
    ) -> None:
        async with until_signal() as nursery:
            nursery.start_soon(watch, self._look, show)
            await self._session.run(loading, wanted, doubtful)
            nursery.cancel_scope.cancel()

    def _look(self) -> tuple[int, int, str]:
        session, size_bytes = self._session, self._manifest.size_bytes
        if self._loading is None:
            return session.kept_bytes, size_bytes, ""
        local_bytes = session.kept_bytes + session.deposit.found_bytes + session.deposit.from_cache_bytes
        # Not only whole blocks: on a slow link many of them land together, long after the last.
        done_bytes = min(local_bytes + self._loading.fetched_bytes, size_bytes)
        return done_bytes, size_bytes, self._loading.loader.last_error

    def outcome(self, began_s: float) -> Outcome:
        """Return what came of it."""
        session, seconds = self._session, time.monotonic() - began_s
        return Outcome(
            len(self._manifest.blobs),
            self._manifest.size_bytes,
            session.kept_bytes,
            session.deposit.found_bytes,
            session.deposit.from_cache_bytes,
            self._loading.fetched_bytes if self._loading is not None else 0,
            sum(blob.digest is not None for blob in self._manifest.blobs),
            seconds,
        )


def _cache_dir(options: PullOptions) -> Path:
    """Return where a cache may be."""
    try:
        return options.cache_dir or default_cache_dir()
    except UsageError:
        return Path("/nonexistent")
