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

    async def read(self, inode: int, span: ByteRange) -> memoryview | bytes:
        """Return the bytes of `span`, which lies within the blob.

        From memory this does not yield to other tasks. A span within one block is a view, without a copy.

        Raises:
            LazyfsError: when a block could not be had; its `errno` is for the reader.

        """
        began_at_s = trio.current_time()
        cuts = list(self._grid.cover(span))
        keys = [BlockKey(inode, cut.index) for cut in cuts]
        tier, missed = Tier.MEMORY, False
        # All demand first, then the hints, then the waiting: demand is ahead of read-ahead in the queue.
        for key, cut in zip(keys, cuts, strict=True):
            if self._loader.peek(key, cut.stop) is None:
                flight, new = self._loader.demand(key)
                tier, missed = flight.tier, missed or new
        self._loader.hint(self._planner.observe(inode, span, missed=missed), Urgency.READAHEAD)
        pieces = []
        for key, cut in zip(keys, cuts, strict=True):
            block = self._loader.peek(key, cut.stop) or await self._loader.load(key, cut.stop)
            self._loader.served(key, cut.stop)
            pieces.append(block.cut(cut.start, cut.stop))
        self._meter.add(READ_BYTES, span.size_bytes, tier)
        self._meter.observe(READ_SECONDS, trio.current_time() - began_at_s, tier)
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        assert len(content) == span.size_bytes, "a short read would be filled with zeros"
        return content
