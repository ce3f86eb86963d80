"""Keeps landed blocks: hands them to the store from threads of its own, after their readers were woken."""

import logging
from collections.abc import Callable

import trio

from lazyfs.core.blob import BlockKey
from lazyfs.streaming.flight import Block

log = logging.getLogger(__name__)

WRITERS = 2
"""Two direct-I/O writes at once keep a disk busy: 1.3 GB/s against 0.9 with one."""

Write = Callable[[BlockKey, memoryview], str]
"""`Store.write`: returns what became of it, `stored` or why not."""
STORED = "stored"
BROKEN = "internal_error"


class Writer:
    """Blocks waiting to be stored, oldest first. The memory budget bounds how many."""

    def __init__(self, write: Write, settled: Callable[[BlockKey, str], None]) -> None:
        self._write = write
        self._settled = settled
        self._pending: dict[BlockKey, Block] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._limiter = trio.CapacityLimiter(WRITERS)

    def submit(self, key: BlockKey, block: Block) -> None:
        """Queue a landed block."""
        self._pending[key] = block
        self._changed.unpark()

    def cancel(self, key: BlockKey) -> bool:
        """Take a block out of the queue; False when it is not in it (being written, or never was)."""
        return self._pending.pop(key, None) is not None

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
        content = block.pages[: block.size_bytes]
        try:
            # When the mount ends, a slow disk must not hold it up: a write cut off is found by its checksum.
            outcome = await trio.to_thread.run_sync(
                self._write, key, content, abandon_on_cancel=True, limiter=self._limiter
            )
        except Exception:  # whatever it is, the mount goes on without storing it
            log.exception("internal_error writer=%s", key)
            outcome = BROKEN
        self._settled(key, outcome)
