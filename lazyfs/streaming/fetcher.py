"""One attempt at a flight: from the network, if its host may be asked, or from the store, checked."""

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import trio

from lazyfs.core.blob import HEAD, BlobRef, BlockKey, ByteRange, Grid
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied, BlockUnreadable, LazyfsError, LocationRefused, SourceUnavailable
from lazyfs.streaming.breakers import Breakers, Held
from lazyfs.streaming.disk import BlockDisk, read_patience_s
from lazyfs.streaming.flight import Flight
from lazyfs.streaming.gets import Gets
from lazyfs.streaming.locator import Locator
from lazyfs.telemetry.metrics import FIRST_BYTE_SECONDS, RANGES_IGNORED, Meter


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
    """Knows how to fill a block; not when, why, or what to do when it cannot. `run` must run."""

    def __init__(
        self,
        blobs: Blobs,
        locator: Locator,
        disk: BlockDisk | None,
        gets: Gets,
        breakers: Breakers,
        meter: Meter,
    ) -> None:
        self._blobs = blobs
        self._locator = locator
        self._disk = disk
        self._gets = gets
        self.breakers = breakers
        self._meter = meter

    @property
    def heads_cost_all(self) -> bool:
        """Whether a blob's head brings all of the blob along, so that it should not be fetched ahead."""
        return self._gets.begin_at_the_start

    def silent_s(self) -> float:
        """Return for how long nothing at all has come over the network; infinity if nothing ever did."""
        return self._gets.silent_s()

    def quiet_s(self, flight: Flight) -> float:
        """Return for how long nothing has come of a flight's requests; 0 while there are none."""
        return self._gets.quiet_s(flight)

    async def run(self) -> None:
        """Watch what is fetched until cancelled."""
        await self._gets.run()

    async def from_network(self, flight: Flight) -> None:
        """Fill what is missing of the flight's block; a refused location is renewed, once.

        Raises:
            AccessDenied: when the new one is refused as well, though it has not expired.
            LazyfsError: see `RangeReader.fetch`; what had landed before stays.
            Held: when its host is down; nothing was asked.

        """
        assert flight.block is not None
        # All may be there already: a reply can fail after its last byte.
        while flight.filled_bytes < flight.block.size_bytes:
            flight.host = ""  # whoever says where it is may be another one, whose troubles are its own
            location = await self._locator.current(flight.key.inode, flight.deadline_at_s)
            flight.host = urlsplit(location.url).netloc.rpartition("@")[2]
            flight.of_a_file = not flight.host
            if not self.breakers.admit(flight.host, waited=bool(flight.waiting)):
                raise Held
            size_bytes = self._blobs.by_inode[flight.key.inode].size_bytes
            try:
                receipt = await self._gets.fly(flight, location, self._blobs.span(flight.key), size_bytes)
            except LocationRefused as error:
                self._locator.refuse(flight.key.inode, location)
                if flight.relocated:
                    raise _verdict(flight, location, error) from None
                flight.relocated = True
            else:
                flight.relocated = False
                self._meter.observe(FIRST_BYTE_SECONDS, receipt.first_byte_s)
                self._meter.add(RANGES_IGNORED, receipt.whole_object)

    async def from_disk(self, flight: Flight, limiter: trio.CapacityLimiter) -> None:
        """Fill the flight's block from the store.

        Raises:
            BlockUnreadable: when the disk gives nothing, or not in time.
            BlockCorrupt: when the store has not got it after all.

        """
        block, disk = flight.block, self._disk
        assert block is not None
        assert disk is not None
        # Of threads that hang there are no more than this: it is not waited for one to come back.
        if not disk.readable or not limiter.available_tokens:
            raise BlockUnreadable("the disk is not read for now")
        patience_s = read_patience_s(block.size_bytes)
        # A view of its own: as long as the thread has it, the memory is not used again.
        into = block.pages[:]
        with trio.move_on_after(patience_s) as waiting:
            await trio.to_thread.run_sync(
                disk.read, flight.key, into, abandon_on_cancel=True, limiter=limiter
            )
        if waiting.cancelled_caught:
            # That thread may still write there.
            flight.tainted = True
            disk.read_hung(flight.key, patience_s)
            raise BlockUnreadable(f"the disk did not give a block within {patience_s:.0f} s")
        block.filled_bytes = block.size_bytes


def _verdict(flight: Flight, location: Location, error: LocationRefused) -> LazyfsError:
    """Return what it means that a second location in a row was refused.

    One that expired while its request waited for its turn says nothing of the right to read; nor does one
    that was refused for credentials that are over, or for the clock: it is located until the deadline.
    """
    if not error.retryable and location.fresh(time.time(), 0.0):
        return AccessDenied(error.cause, error.cure)
    flight.relocated = False
    if error.retryable:
        return error
    return SourceUnavailable(f"{error.cause}: the location expired before it was used")
