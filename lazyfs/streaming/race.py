"""One attempt at a flight: its GET, and a second one beside it when the first is late."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from lazyfs.core.blob import ByteRange
from lazyfs.core.hedging import Trip
from lazyfs.core.location import Location
from lazyfs.errors import SourceUnavailable
from lazyfs.streaming.flight import Block, Flight
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Receipt, Wanted


class Race:
    """The GETs of a flight that are under way."""

    def __init__(self, flight: Flight, location: Location, span: ByteRange, size_bytes: int) -> None:
        self.flight = flight
        self.location = location
        self._span = span
        self.size_bytes = size_bytes
        self.gets: list[Get] = []
        self.seconds = 0
        """How many second GETs there have been."""
        self.over = trio.Event()
        self.receipt: Receipt | None = None
        self.error: Exception | None = None

    @property
    def flying(self) -> "list[Get]":
        """The GETs that have not been given up: one that has may be about to end, and decides nothing."""
        return [get for get in self.gets if not get.ended]

    def wanted(self, start: int) -> Wanted:
        """Return what is wanted of the block from `start` on."""
        return Wanted(ByteRange(self._span.start + start, self._span.stop), self.size_bytes)

    def decide(self, receipt: Receipt | None, error: Exception | None = None) -> None:
        """End the race, by a GET that has brought everything or by an error."""
        self.receipt, self.error = receipt, error
        self.over.set()


@dataclass(frozen=True, slots=True)
class Referee:
    """Whom lane threads tell, on the trio thread."""

    overtakes: Callable[["Get"], None]
    """It holds more than the flight's block."""
    gone: Callable[["Get"], None]
    """It was given up, and its thread is over."""
    alive: Callable[[str], None]
    """The host sends something."""
    troubled: Callable[[str], bool]
    """Whether `alive` would be news. Called in a lane's thread."""


class Get:
    """One ranged GET in a thread, into memory that no other GET writes to.

    The first of a race writes into the flight's block. A second one has a block of its own, with a copy of
    what had landed before; once it holds more than the flight's, it becomes the flight's. So one that was
    given up may write as long as it likes: nobody looks there any more, and `Buffers` gives it to nobody.
    """

    def __init__(
        self, race: Race, lane: Lane, trip: Trip, block: Block, before: memoryview, referee: Referee
    ) -> None:
        self.race = race
        self.lane = lane
        self.trip = trip
        self.block = block
        self.start = len(before)
        self.scope = trio.CancelScope()
        self.heard_at_s = self.began_s = time.monotonic()
        """When something came of it last, if only that the object comes nearer. Its thread writes it."""
        self.ended = self.thread_began = self.thread_over = self.counted = False
        self._before: memoryview | None = before
        self._before_bytes = lane.received_bytes
        self._used_bytes = 0
        self._referee = referee
        self._token = trio.lowlevel.current_trio_token()

    @property
    def wasted_bytes(self) -> int:
        """Bytes that came and were of no use, of a GET that was given up."""
        return max(0, self.lane.received_bytes - self._before_bytes - self._used_bytes)

    def end(self, other: "Get | None" = None) -> None:
        """Give it up, for another one if so. Its thread ends soon, and nobody waits for that."""
        if self.ended:
            return
        self.ended = True
        # What the other one began with is of use.
        self._used_bytes = max(0, other.start - self.start) if other is not None else 0
        self.lane.end()
        self.scope.cancel()
        if self.thread_over:
            self._referee.gone(self)

    def fetch(self) -> Receipt:
        """Fetch, in a thread.

        Raises:
            LazyfsError: see `RangeReader.fetch`; what had landed before stays.

        """
        self.thread_began = True
        assert self._before is not None
        try:
            if self.start and self.block.filled_bytes < self.start:
                self.block.pages[: self.start] = self._before
            self._before = None
            wanted = self.race.wanted(self.start)
            into = self.block.pages[self.start : self.block.size_bytes]
            return self.lane.fetch(self.race.location, wanted, into, self._landed)
        finally:
            # In this order: `end` sets the one, then looks at the other.
            self.thread_over = True
            if self.ended:
                try:
                    self._token.run_sync_soon(self._referee.gone, self)
                except trio.RunFinishedError:
                    self.lane.close()

    def _landed(self, count: int) -> None:
        if self.ended:
            raise SourceUnavailable("the request was given up")
        flight, self.heard_at_s = self.race.flight, time.monotonic()
        self.block.filled_bytes = self.start + count
        self.trip.landed(time.monotonic(), count)
        if flight.block is not self.block:
            if self.block.filled_bytes > flight.filled_bytes:
                self._token.run_sync_soon(self._referee.overtakes, self, idempotent=True)
        elif flight.waiting:
            self._token.run_sync_soon(flight.wake, idempotent=True)
        if self._referee.troubled(flight.host):
            self._token.run_sync_soon(self._referee.alive, flight.host, idempotent=True)
