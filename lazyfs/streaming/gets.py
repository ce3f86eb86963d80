"""The GETs in the air, each in a thread, through a lane. A second one if the first is late (ADR 0013)."""

import logging
import math
import time
from dataclasses import dataclass

import trio

from lazyfs.core.blob import ByteRange
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.hedging import Hedging
from lazyfs.core.location import Location
from lazyfs.errors import LazyfsError, SourceUnavailable
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.breakers import Breakers
from lazyfs.streaming.flight import Block, Flight, Tier
from lazyfs.streaming.race import Get, Race, Referee
from lazyfs.telemetry.metrics import ERRORS, FETCH_BYTES, HEDGES, HEDGES_WON, Meter
from lazyfs.transport.connection import Patience
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Receipt
from lazyfs.transport.whole import Wholes

log = logging.getLogger(__name__)

TICK_S = 0.01
SECONDS_MAX = 4
"""So many second GETs at once; each has a block that the memory budget knows nothing of."""
THREADS_LEFT = 16
"""Threads beyond those of the lanes: for second GETs, and for those that were given up and look up a name."""
SILENT_S = 1.0
"""Past a reader's deadline, a GET that brings nothing for so long is given up."""


@dataclass(frozen=True, slots=True)
class GetsStatistics:
    """What is in the air."""

    threads: int
    """Threads that use a connection, those too that nobody waits for any more."""


class Gets:
    """Sends GETs for flights. `run` must run."""

    def __init__(
        self,
        memory: BlockMemory,
        breakers: Breakers,
        meter: Meter,
        lanes: int,
        patience: Patience | None = None,
        wholes: Wholes | None = None,
    ) -> None:
        self._memory = memory
        self._breakers = breakers
        self._meter = meter
        self._patience = patience
        self._wholes = wholes
        self._threads = trio.CapacityLimiter(lanes + THREADS_LEFT)
        self._idle: list[Lane] = []
        self._closed = False
        self._hedging = Hedging()
        self._races: dict[Race, None] = {}
        self._began = trio.Event()
        self._seconds = 0
        self._heard_at_s = -math.inf
        """When something came last of a request that is over."""
        self._nursery: trio.Nursery | None = None
        self._ranges_ignored = False
        self._referee = Referee(self._overtakes, self._gone, breakers.alive, breakers.__contains__)

    async def fly(self, flight: Flight, location: Location, span: ByteRange, size_bytes: int) -> Receipt:
        """Fill what is missing of the flight's block, which is `span` of an object that long.

        Raises:
            LazyfsError: see `RangeReader.fetch`; what had landed before stays.

        """
        assert flight.block is not None
        race = Race(flight, location, span, size_bytes)
        self._races[race] = None
        self._began.set()
        try:
            landed = flight.block.pages[: flight.filled_bytes]
            await self._run(self._get(race, flight.block, landed))
            await race.over.wait()
        finally:
            del self._races[race]
            for get in race.gets:
                get.end()
        if race.error is not None:
            raise race.error
        assert race.receipt is not None
        return race.receipt

    def _get(self, race: Race, block: Block, landed: memoryview) -> Get:
        # The connection used last: it is there, and has got up speed.
        lane = self._idle.pop() if self._idle else Lane(self._patience, self._wholes)
        trip = self._hedging.begin(time.monotonic(), block.size_bytes - len(landed))
        get = Get(race, lane, trip, block, landed, self._referee)
        race.gets.append(get)
        return get

    async def _run(self, get: Get) -> None:
        """Send a GET, and settle what comes of it."""
        receipt: Receipt | None = None
        error: Exception | None = None
        try:
            with get.scope:
                # A GET has no side effects: its thread may be left behind.
                receipt = await trio.to_thread.run_sync(
                    get.fetch, abandon_on_cancel=True, limiter=self._threads
                )
        except Exception as caught:  # noqa: BLE001 - whatever it is, it is the flight's
            error = caught
        except BaseException:
            get.end()
            raise
        finally:
            self._hedging.end(get.trip, complete=receipt is not None)
            get.race.gets.remove(get)
            if get.heard_at_s > get.began_s:
                self._heard_at_s = max(self._heard_at_s, get.heard_at_s)
        if not get.ended:
            self._give(get.lane)
            self._settle(get, receipt, error)
        elif not get.thread_began:
            self._gone(get)

    def statistics(self) -> GetsStatistics:
        """Return what is in the air now."""
        return GetsStatistics(self._threads.borrowed_tokens)

    def silent_s(self) -> float:
        """See `Fetcher.silent_s`."""
        heard = [get.heard_at_s for race in self._races for get in race.gets if get.heard_at_s > get.began_s]
        return time.monotonic() - max(heard, default=self._heard_at_s)

    def quiet_s(self, flight: Flight) -> float:
        """See `Fetcher.quiet_s`."""
        now_s = time.monotonic()
        gets = (get for race in self._races if race.flight is flight for get in race.flying)
        return min((now_s - get.heard_at_s for get in gets), default=0.0)

    def _give(self, lane: Lane) -> None:
        if self._closed:
            lane.close()
        else:
            self._idle.append(lane)

    def _settle(self, get: Get, receipt: Receipt | None, error: Exception | None) -> None:
        """Decide the race by a GET that has ended by itself, or let the other one go on."""
        race = get.race
        if race.flight.host and (error is None or isinstance(error, LazyfsError)):
            self._breakers.answered(race.flight.host, race.flight.key.inode, error)
        if receipt is not None:
            self._ranges_ignored = receipt.whole_object
            self._overtakes(get)
            race.decide(receipt)
        elif isinstance(error, SourceUnavailable) and race.flying:
            # The other one may yet bring it.
            self._meter.add(ERRORS, label=error.kind())
            useful = max(0, race.flying[0].start - get.start)
            self._meter.add(FETCH_BYTES, max(0, get.trip.received_bytes - useful), Tier.NETWORK)
        else:
            race.decide(None, error)
        if race.over.is_set():
            for other in race.gets:
                other.end(get)

    # -- second GETs ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch the GETs in the air until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    if not self._races:
                        self._began = trio.Event()
                        await self._began.wait()
                    await trio.sleep(TICK_S)
                    self._look()
        finally:
            self.close()

    def close(self) -> None:
        """Close the connections that nobody uses, and from now on every one after its use."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        if self._wholes is not None:
            self._wholes.close()

    def _look(self) -> None:
        """Send second GETs where the first are late, for whoever has waited longest first."""
        self._hedging.look(time.monotonic())
        # Also those whose readers have given up: they would take up lanes for long.
        wanted = [
            race for race in self._races if race.flight.urgency is Urgency.DEMAND and not race.over.is_set()
        ]
        for race in sorted(wanted, key=lambda race: race.flight.waiting_since_s or math.inf):
            if trio.current_time() > race.flight.deadline_at_s:
                self._end_if_silent(race)
            elif race.flight.waiting and self._late(race) and self._may_hedge(race):
                self._second(race)

    @property
    def begin_at_the_start(self) -> bool:
        """Whether objects come whole, as far as is known: then the front of one costs all of it."""
        return self._wholes is not None and self._wholes.usual

    def _whole(self, race: Race) -> bool:
        """Tell whether the object comes whole: a block of it waits for those before it, however long."""
        return self._wholes is not None and self._wholes.serves(race.location, race.size_bytes)

    def _end_if_silent(self, race: Race) -> None:
        if self._whole(race):
            return  # the one stream it comes by has its own patience
        if race.flight.host and all(self._hedging.silent_s(get.trip) > SILENT_S for get in race.flying):
            race.decide(None, SourceUnavailable(f"no answer from {race.flight.host} within the deadline"))
            for get in race.gets:
                get.end()

    def _late(self, race: Race) -> bool:
        return all(self._hedging.late(get.trip, race.seconds) for get in race.flying)

    def _may_hedge(self, race: Race) -> bool:
        """Tell whether another GET may help, and is allowed."""
        flight = race.flight
        if not flight.host or flight.host in self._breakers.down or self._ranges_ignored:
            return False  # a file; a host that is asked by one at a time; a second GET would bring everything
        if self._whole(race):
            return False
        if not race.location.fresh(time.time(), 0.0):
            return False  # it would be refused; the first one was sent before
        missing = flight.block is not None and flight.filled_bytes < flight.block.size_bytes
        if not missing or self._seconds >= SECONDS_MAX or any(get.lane.unread for get in race.flying):
            return False  # what has come, and only waits for its thread, comes soonest
        return self._hedging.take()

    def _second(self, race: Race) -> None:
        """Send another GET for what is missing; of three, the one before is given up."""
        flight, nursery = race.flight, self._nursery
        assert flight.block is not None
        assert nursery is not None
        block = self._memory.spare(flight.block.size_bytes)
        if block is None:
            return
        for get in race.flying[1:]:
            get.end()
        landed = flight.block.pages[: flight.filled_bytes]
        race.seconds += 1
        self._meter.add(HEDGES)
        log.debug("hedge host=%r missing=%d", flight.host, block.size_bytes - len(landed))
        nursery.start_soon(self._run_second, self._get(race, block, landed))

    async def _run_second(self, get: Get) -> None:
        self._seconds += 1
        try:
            await self._run(get)
        finally:
            self._seconds -= 1

    def _overtakes(self, get: Get) -> None:
        """Have the flight go on with the block of a GET that holds more of it."""
        race, flight = get.race, get.race.flight
        ahead = get.block is not flight.block and get.block.filled_bytes > flight.filled_bytes
        if get.ended or race.over.is_set() or not ahead:
            return
        self._meter.add(HEDGES_WON)
        self._memory.replace(flight.key, get.block)
        flight.block = get.block
        flight.wake()
        for other in race.gets:
            if other is not get:
                other.end(get)

    def _gone(self, get: Get) -> None:
        """Hear that the thread of a GET that was given up is over."""
        if not get.counted:
            get.counted = True
            get.lane.close()
            self._meter.add(FETCH_BYTES, get.wasted_bytes, Tier.NETWORK)
