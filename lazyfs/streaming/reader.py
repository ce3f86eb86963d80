"""A span of a blob -> exactly those bytes, or an error. Never short, never zeros."""

import trio

from lazyfs.core.blob import BlockKey, ByteRange, Grid
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.plan import Planner
from lazyfs.streaming.flight import Tier
from lazyfs.streaming.loader import BlockLoader
from lazyfs.telemetry.metrics import READ_BYTES, READ_SECONDS, Meter


class BlobReader:
    """Reads any blob of the snapshot. It keeps nothing: state belongs to blocks and to the plan."""

    def __init__(self, loader: BlockLoader, planner: Planner, grid: Grid, meter: Meter) -> None:
        self._loader = loader
        self._planner = planner
        self._grid = grid
        self._meter = meter

    def read_now(self, inode: int, span: ByteRange) -> memoryview | bytes | None:
        """Return the bytes of `span` if they are in memory, without waiting; else None."""
        pieces = []
        for cut in self._grid.cover(span):
            block = self._loader.peek(BlockKey(inode, cut.index), cut.stop)
            if block is None:
                return None
            pieces.append(block.cut(cut.start, cut.stop))
        self._read_ahead(inode, span, missed=False)
        return self._served(inode, span, pieces, Tier.MEMORY)

    async def read(self, inode: int, span: ByteRange, since_s: float | None = None) -> memoryview | bytes:
        """Return the bytes of `span`, which lies within the blob.

        A span within one block is a view, without a copy. `since_s` is when the reader began to wait, by
        `time.monotonic()`, if another process has let it wait before.

        Raises:
            LazyfsError: when a block could not be had; its `errno` is for the reader.

        """
        began_at_s = trio.current_time()
        cuts = [(BlockKey(inode, cut.index), cut) for cut in self._grid.cover(span)]
        tier, missed = Tier.MEMORY, False
        with self._loader.waits.begin(inode, span, since_s) as wait:
            # All demand first, then the hints, then the waiting: demand is ahead of read-ahead in the queue.
            for key, cut in cuts:
                if self._loader.peek(key, cut.stop) is None:
                    flight, new = self._loader.demand(key, cut.stop)
                    tier, missed = flight.tier, missed or new
            self._read_ahead(inode, span, missed=missed)
            pieces = []
            for key, cut in cuts:
                block = await self._loader.load(key, cut.stop, wait)
                pieces.append(block.cut(cut.start, cut.stop))
        self._meter.observe(READ_SECONDS, trio.current_time() - began_at_s, tier)
        return self._served(inode, span, pieces, tier)

    def _read_ahead(self, inode: int, span: ByteRange, *, missed: bool) -> None:
        self._loader.hint(self._planner.observe(inode, span, missed=missed), Urgency.READAHEAD)

    def _served(
        self, inode: int, span: ByteRange, pieces: list[memoryview], tier: Tier
    ) -> memoryview | bytes:
        """Take note of what a reader is given, and put it together."""
        for cut in self._grid.cover(span):
            self._loader.served(BlockKey(inode, cut.index), cut.stop - cut.start)
        self._meter.add(READ_BYTES, span.size_bytes, tier)
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(content) != span.size_bytes:
            raise RuntimeError(f"{len(content)} bytes for {span}")  # a short reply would be filled with zeros
        return content
