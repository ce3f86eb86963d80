"""Keeps landed blocks: hands them to the store from threads of its own, after their readers were woken."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from lazyfs.core.blob import BlockKey
from lazyfs.streaming.disk import WRITE_PATIENCE_S, BlockDisk
from lazyfs.streaming.flight import Block

log = logging.getLogger(__name__)

WRITERS = 2
"""Two direct-I/O writes at once keep a disk busy: 1.3 GB/s against 0.9 with one."""

STORED, REPAIRED, DISK_TROUBLE = "stored", "repaired", "disk_trouble"
"""What `Store.write` returns, of what matters here; the others say why a block was declined."""
BROKEN = "internal_error"


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """What a writer has to do."""

    pending: int
    """Blocks that wait for a thread."""
    threads: int
    """Threads that write, those too that are not waited for any more."""


class Writer:
    """Blocks waiting to be stored, oldest first. The memory budget bounds how many."""

    def __init__(self, disk: BlockDisk, settled: Callable[[BlockKey, str], None]) -> None:
        self._disk = disk
        self._settled = settled
        self._pending: dict[BlockKey, Block] = {}
        self._declined: dict[BlockKey, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._limiter = trio.CapacityLimiter(WRITERS)
        self._writing = 0

    @property
    def unsettled(self) -> int:
        """How many landed blocks are not stored yet."""
        return len(self._pending) + self._writing

    def statistics(self) -> WriterStatistics:
        """Return what there is to do now."""
        return WriterStatistics(len(self._pending), self._limiter.borrowed_tokens)

    def submit(self, key: BlockKey, block: Block) -> None:
        """Queue a landed block."""
        self._pending[key] = block
        self._changed.unpark()

    def cancel(self, key: BlockKey) -> bool:
        """Take a block out of the queue; False when it is not in it (being written, or never was)."""
        if self._pending.pop(key, None) is None:
            return False
        self._disk.fell_behind()
        return True

    async def run(self) -> None:
        """Write until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WRITERS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            while not self._pending:
                await self._changed.park()
            await self._keep(next(iter(self._pending)))

    async def _keep(self, key: BlockKey) -> None:
        block = self._pending.pop(key)
        self._writing += 1
        try:
            outcome = await self._outcome(key, block)
        finally:
            self._writing -= 1
        if outcome == DISK_TROUBLE:
            self._declined[key] = None
        self._settled(key, outcome)

    async def _outcome(self, key: BlockKey, block: Block) -> str:
        content = block.pages[: block.size_bytes]
        # Of threads that hang there are no more than this: it is not waited for one to come back.
        if self._disk.writable and self._limiter.available_tokens:
            try:
                return await self._written(key, content)
            except Exception:  # whatever it is, the mount goes on without storing it
                log.exception("internal_error writer=%s", key)
                return BROKEN
        return DISK_TROUBLE

    def again(self, *, all_of_them: bool) -> tuple[BlockKey, ...]:
        """Return blocks that the disk would not take, and forget them; one if it has yet to be tried."""
        if not self._disk.writable:
            return ()
        found = tuple(self._declined)[: None if all_of_them else 1]
        for key in found:
            del self._declined[key]
        return found

    async def _written(self, key: BlockKey, content: memoryview) -> str:
        """Return what became of a block that is written, or that it takes too long."""
        with trio.move_on_after(WRITE_PATIENCE_S):
            # When the mount ends, a slow disk must not hold it up: a write cut off is found by its checksum.
            return await trio.to_thread.run_sync(
                self._disk.write, key, content, abandon_on_cancel=True, limiter=self._limiter
            )
        self._disk.write_hung(WRITE_PATIENCE_S)
        return DISK_TROUBLE
