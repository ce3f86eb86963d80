"""Filling the node's cache: the loader and the store of a mount, until everything is stored."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from lazyfs.cache.directory import CacheDirectory, open_directory
from lazyfs.cache.reading import StoredBlocks
from lazyfs.cache.store import Outcome, Store, Terms, open_store
from lazyfs.cache.verification import Verdict
from lazyfs.config import WarmOptions, default_cache_dir
from lazyfs.core.blob import BlockKey, Grid
from lazyfs.core.duplicates import duplicates
from lazyfs.core.ledger import Ledger
from lazyfs.core.manifest import Manifest
from lazyfs.core.memorybudget import budget_bytes
from lazyfs.core.plan import Planner, Policy
from lazyfs.errors import CacheUnusable, DigestMismatch, LazyfsError, UsageError
from lazyfs.mount.loading import Loading, connections_of, limits_of, wire
from lazyfs.mount.memory import limit_bytes
from lazyfs.mount.snapshot import connect
from lazyfs.pull.claims import take_whole
from lazyfs.pull.ending import until_signal
from lazyfs.pull.spooling import meanwhile, spooled_bytes
from lazyfs.pull.watching import SAMPLE_S, Show, watch
from lazyfs.sources import Source
from lazyfs.streaming.fetcher import Blobs
from lazyfs.streaming.warmer import Warmer
from lazyfs.telemetry.status import bytes_text

log = logging.getLogger(__name__)

TRIES_IN_VAIN_MAX = 3
"""So often in a row everything that is missing is fetched again, and nothing of it stays."""
_CURE = "free some space, leave files out with --exclude, or choose another --cache-dir"


@dataclass(frozen=True, slots=True)
class Filled:
    """What is in the cache now, and how much of it came just now."""

    files: int
    size_bytes: int
    stored_bytes: int
    network_bytes: int
    seconds: float


def fill(address: str, options: WarmOptions, show: Show) -> Filled:
    """Have all that a mount of a source would fetch in the cache.

    Raises:
        CacheUnusable: when the cache cannot be used, or cannot keep it.
        Ended: when a signal ended it.
        LazyfsError: whatever the source raises; what has come is kept.

    """
    began_s = time.monotonic()
    if options.cache_size == 0:
        raise UsageError("--cache-size 0 keeps nothing", "leave it out, or name a size")
    source = connect(address, options)
    try:
        manifest = take_whole(source, address, options)
        by_inode = {inode: node.blob for inode, node in manifest.nodes().items() if node.blob is not None}
        blobs = Blobs(by_inode, Grid(options.block_size))
        directory = open_directory(options.cache_dir or default_cache_dir())
        spared = duplicates(by_inode)
        store = open_store(directory, blobs.grid, by_inode, manifest, Terms(options.cache_size), spared)
        network_bytes, needed = 0, [inode for inode in by_inode if inode not in spared]
        if store.missing_bytes or store.unverified:
            coming = [by_inode[inode] for inode in needed] if store.missing_bytes else []
            _require_room(directory, store, spooled_bytes(source, address, coming))
            network_bytes = _Filling(manifest, blobs, store, spared, directory.root).do(source, options, show)
        _require_stored(directory, blobs, needed)
        seconds = time.monotonic() - began_s
        log.info("warmed bytes=%d network=%d seconds=%.2f", store.stored_bytes, network_bytes, seconds)
        return Filled(len(by_inode), manifest.size_bytes, store.stored_bytes, network_bytes, seconds)
    finally:
        source.close()


def _require_room(directory: CacheDirectory, store: Store, spooled: int) -> None:
    """Make sure that the disk has room for whole files too, if any come.

    Raises:
        CacheUnusable: when they do not fit even after all that others have stored has left.

    """
    most = directory.free_bytes() + store.used_bytes - store.stored_bytes
    if spooled and store.missing_bytes + spooled > most:
        raise CacheUnusable(
            f"{directory.root} has room for {bytes_text(most)}, and "
            f"{bytes_text(store.missing_bytes)} are to come{meanwhile(spooled)}",
            _CURE,
        )


def _require_stored(directory: CacheDirectory, blobs: Blobs, needed: Collection[int]) -> None:
    """Make sure that the cache has every block, by what the disk says and not by what was counted here.

    Other processes use the cache too, and the disk has its own mind.

    Raises:
        CacheUnusable: when something is missing.

    """
    stored = StoredBlocks(directory.root, blobs.grid, blobs.by_inode)
    for inode in needed:
        stored.look(inode)
    missing = _missing(blobs, needed, stored.has)
    if missing:
        raise _lost(directory.root, blobs, missing)


def _missing(blobs: Blobs, needed: Collection[int], has: Callable[[BlockKey], bool]) -> list[BlockKey]:
    """Return the blocks of the blobs that are needed and not there."""
    counts = {inode: blobs.grid.count(blobs.by_inode[inode].size_bytes) for inode in needed}
    keys = (BlockKey(inode, index) for inode, count in counts.items() for index in range(count))
    return [key for key in keys if not has(key)]


def _lost(root: Path, blobs: Blobs, missing: Sequence[BlockKey]) -> CacheUnusable:
    """Return what to say of blocks that came and are not there; of several files, the one that lacks most."""
    lacking: Counter[int] = Counter()
    for key in missing:
        lacking[key.inode] += blobs.span(key).size_bytes
    (inode, lacks_bytes), *others = lacking.most_common()
    more = f" and {bytes_text(sum(count for _, count in others))} of other files" if others else ""
    return CacheUnusable(
        f"{bytes_text(lacks_bytes)} of {blobs.by_inode[inode].name}{more} came and are not in the cache "
        f"{root}: another process has taken them out, or the disk has lost them",
        "warm again; if it stays so, raise --cache-size or check the disk",
    )


class _Keeper:
    """The store, as the loader sees it (`streaming.disk.BlockDisk`); it says what becomes of each block."""

    def __init__(self, store: Store, hear: Callable[[Outcome], None], hung: Callable[[], None]) -> None:
        """`hear` is told in a thread what became of each block; `hung`, that the disk does not answer."""
        self._store, self._hear, self._hung = store, hear, hung
        self.has, self.read, self.read_hung = store.has, store.read, store.read_hung
        self.fell_behind = store.fell_behind
        self.readable = self.writable = True

    def write(self, key: BlockKey, content: memoryview) -> str:
        """Store a block; return what became of it."""
        outcome = self._store.write(key, content)
        self._hear(outcome)
        return outcome

    def write_hung(self, seconds: float) -> None:
        """Say that `write` has not returned for so long, and is not waited for."""
        self._store.write_hung(seconds)
        self._hung()


class _Filling:
    """One filling, put together. The first block that cannot be had or kept ends it."""

    def __init__(
        self, manifest: Manifest, blobs: Blobs, store: Store, spared: frozenset[int], root: Path
    ) -> None:
        self._manifest, self._blobs, self._store, self._root = manifest, blobs, store, root
        self._plan = Planner(blobs.by_inode, blobs.grid, Policy.MODEL, spared=spared)
        self._needed = [inode for inode in blobs.by_inode if inode not in spared]
        self._needed_bytes = store.stored_bytes + store.missing_bytes
        self._tries_in_vain = 0
        self._missed_bytes = store.missing_bytes
        """How much was missing when it was last looked for."""
        self._error: LazyfsError | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._done = trio.Event()

    def do(self, source: Source, options: WarmOptions, show: Show) -> int:
        """Fetch and store what is missing; return how many bytes came.

        Raises:
            LazyfsError: when something could not be had or kept.

        """
        if self._store.capacity_bytes < self._needed_bytes:
            raise self._too_small()
        memory = budget_bytes(limit_bytes(), options.memory, connections_of(options), options.block_size)
        warmer = Warmer(self._plan, self._store.has)
        keeper = _Keeper(self._store, self._hear, self._refused)
        ledger: Ledger[BlockKey] = Ledger(memory)
        loading = wire(self._blobs, source.locate, keeper, warmer, ledger, limits_of(options), self._root)
        loading.loader.gave_up = lambda _key, error: self._end(error)
        log.info(
            "warm_began source=%r files=%d bytes=%d missing=%d",
            self._manifest.source, len(self._manifest.blobs), self._manifest.size_bytes,
            self._store.missing_bytes,
        )  # fmt: skip
        trio.run(self._run, loading, show)
        if self._error is not None:
            raise self._error
        return loading.fetched_bytes

    async def _run(self, loading: Loading, show: Show) -> None:
        self._token = trio.lowlevel.current_trio_token()
        assert loading.writer is not None
        async with until_signal() as nursery:
            nursery.start_soon(watch, partial(self._look, loading), show)
            nursery.start_soon(loading.loader.run)
            nursery.start_soon(loading.writer.run)
            nursery.start_soon(loading.memory.run)
            nursery.start_soon(self._see_to_the_end, loading)
            await self._verify()
            nursery.cancel_scope.cancel()

    async def _verify(self) -> None:
        """Hash each file that has a digest as soon as it is complete, until all have come to their ends."""
        tried: set[int] = set()
        while self._error is None:
            waiting = [inode for inode in self._store.unverified if inode not in tried]
            if waiting:
                tried.add(waiting[0])
                verify = partial(self._store.verify, waiting[0], _yes)
                self._judge(waiting[0], await trio.to_thread.run_sync(verify, abandon_on_cancel=True))
            elif self._done.is_set():
                return
            else:
                with trio.move_on_after(SAMPLE_S):
                    await self._done.wait()

    def _judge(self, inode: int, verdict: Verdict) -> None:
        name = self._blobs.by_inode[inode].name
        if verdict is Verdict.WRONG:
            self._end(
                DigestMismatch(
                    f"{name} is not what its publisher says",
                    "warm again; if it stays so, tell the publisher",
                )
            )
        elif verdict is Verdict.DAMAGED:
            self._end(CacheUnusable(f"the disk did not give {name} back as it was written", "check the disk"))

    async def _see_to_the_end(self, loading: Loading) -> None:
        """Wait until everything is stored; have brought again what is not, though nothing is under way."""
        while self._store.missing_bytes:
            await trio.sleep(SAMPLE_S)
            if loading.at_rest and self._store.missing_bytes:
                self._look_again(loading)
        self._done.set()

    def _look_again(self, loading: Loading) -> None:
        """Go back to blocks that came and are not stored: others took them out, or a write went wrong."""
        missing_bytes = self._store.missing_bytes
        self._tries_in_vain = self._tries_in_vain + 1 if missing_bytes >= self._missed_bytes else 0
        self._missed_bytes = missing_bytes
        keys = _missing(self._blobs, self._needed, self._store.has)
        if self._tries_in_vain == TRIES_IN_VAIN_MAX:
            self._end(_lost(self._root, self._blobs, keys))
            return
        log.warning("warm_lost bytes=%d blocks=%d consequence=%r", missing_bytes, len(keys), "fetched again")
        for key in keys:
            loading.loader.discard(key)
            loading.warmer.unmark(key)
        loading.loader.stir()

    def _look(self, loading: Loading) -> tuple[int, int, str]:
        # Not only whole blocks: on a slow link many of them land together, long after the last.
        done_bytes = self._store.stored_bytes + loading.loader.traffic.arriving_bytes
        return min(done_bytes, self._needed_bytes), self._needed_bytes, loading.loader.last_error

    def _hear(self, outcome: Outcome) -> None:
        """Hear, in a thread, what became of a block."""
        assert self._token is not None
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._settled, outcome)

    def _settled(self, outcome: Outcome) -> None:
        if outcome is Outcome.OVER_BUDGET:
            self._end(self._too_small())
        elif outcome is Outcome.DISK_TROUBLE:
            self._refused()
        elif not self._store.missing_bytes:
            self._done.set()

    def _refused(self) -> None:
        _, why = self._store.health.look()
        self._end(CacheUnusable(f"the cache does not take a block: {why}", _CURE))

    def _too_small(self) -> CacheUnusable:
        return CacheUnusable(
            f"the cache may hold {bytes_text(self._store.capacity_bytes)}, and "
            f"{self._manifest.source} has {bytes_text(self._needed_bytes)}",
            f"raise --cache-size if it was given, {_CURE}",
        )

    def _end(self, error: LazyfsError) -> None:
        """End it: trying on cannot help."""
        self._error = self._error or error
        self._done.set()


def _yes() -> bool:
    """Tell whether to go on hashing: the process ends when it is not wanted any more."""
    return True
