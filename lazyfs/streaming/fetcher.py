"""One attempt at a flight, in a thread: from the network through a lane, or from the store, checked."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from lazyfs.core.blob import HEAD, BlobRef, BlockKey, ByteRange, Grid
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied, LocationRefused
from lazyfs.streaming.flight import Flight
from lazyfs.streaming.locator import Locator
from lazyfs.telemetry.metrics import FIRST_BYTE_SECONDS, RANGES_IGNORED, Meter
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Receipt, Wanted

ReadBack = Callable[[BlockKey, memoryview], None]
"""`Store.read`."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """The snapshot's blobs by inode, and the grid they are cut by."""

    by_inode: dict[int, BlobRef]
    grid: Grid
    head_bytes: int = 0

    def span(self, key: BlockKey) -> ByteRange:
        """Return the bytes of its blob that a block, or the head, holds."""
        size_bytes = self.by_inode[key.inode].size_bytes
        if key.index == HEAD:
            return ByteRange(0, min(self.head_bytes, size_bytes))
        return self.grid.span(size_bytes, key.index)


class Fetcher:
    """Knows how to fill a block; not when, why, or what to do when it cannot."""

    def __init__(self, blobs: Blobs, locator: Locator, read_back: ReadBack | None, meter: Meter) -> None:
        self._blobs = blobs
        self._locator = locator
        self._read_back = read_back
        self._meter = meter

    async def from_network(self, flight: Flight, lane: Lane, limiter: trio.CapacityLimiter) -> None:
        """Fill what is missing of the flight's block; a refused location is renewed, once.

        Raises:
            LazyfsError: see `RangeReader.fetch`; what had landed before stays.

        """
        assert flight.block is not None
        # All may be there already: a reply can fail after its last byte.
        while flight.block.filled_bytes < flight.block.size_bytes:
            location = await self._locator.current(flight.key.inode)
            try:
                receipt = await self._attempt(flight, lane, location, limiter)
            except LocationRefused as error:
                self._locator.refuse(flight.key.inode, location)
                if flight.relocated:
                    raise AccessDenied(error.cause, error.cure) from None
                flight.relocated = True
            else:
                flight.relocated = False
                self._meter.observe(FIRST_BYTE_SECONDS, receipt.first_byte_s)
                self._meter.add(RANGES_IGNORED, receipt.whole_object)

    async def _attempt(
        self, flight: Flight, lane: Lane, location: Location, limiter: trio.CapacityLimiter
    ) -> Receipt:
        block, span = flight.block, self._blobs.span(flight.key)
        assert block is not None
        start = block.filled_bytes
        token = trio.lowlevel.current_trio_token()

        def landed(count: int) -> None:  # in the lane's thread
            block.filled_bytes = start + count
            if flight.waiting:
                token.run_sync_soon(flight.wake, idempotent=True)

        wanted = Wanted(
            ByteRange(span.start + start, span.stop), self._blobs.by_inode[flight.key.inode].size_bytes
        )
        into = block.pages[start : block.size_bytes]
        # A GET has no side effects: when the mount ends, its thread may be left behind.
        return await trio.to_thread.run_sync(
            lane.fetch, location, wanted, into, landed, abandon_on_cancel=True, limiter=limiter
        )

    async def from_disk(self, flight: Flight, limiter: trio.CapacityLimiter) -> None:
        """Fill the flight's block from the store.

        Raises:
            BlockCorrupt: when the store has not got it after all.

        """
        assert flight.block is not None
        assert self._read_back is not None
        await trio.to_thread.run_sync(
            self._read_back, flight.key, flight.block.pages, abandon_on_cancel=True, limiter=limiter
        )
        flight.block.filled_bytes = flight.block.size_bytes
