"""Where flights wait for lanes, and lanes for flights."""

from collections import deque

import trio

from lazyfs.core.blob import BlockKey
from lazyfs.core.fetchqueue import FetchQueue, Urgency
from lazyfs.streaming.flight import Flight


class Pool:
    """The flights of one tier that wait for a lane, and the lanes that wait for a flight."""

    def __init__(self) -> None:
        self.queue: FetchQueue[BlockKey] = FetchQueue()
        self.returning: deque[Flight] = deque()
        """Flights that have their memory already, and go before any that must wait for some."""
        self._idle = {least: trio.lowlevel.ParkingLot() for least in (Urgency.WARMUP, Urgency.DEMAND)}

    def returned(self, least: Urgency) -> Flight | None:
        """Take the first returning flight of at least this urgency."""
        for flight in self.returning:
            if flight.urgency <= least:
                self.returning.remove(flight)
                return flight
        return None

    async def rest(self, least: Urgency) -> None:
        """Wait until there may be something to do for a lane that takes flights of at least this urgency."""
        await self._idle[least].park()

    def stir(self) -> None:
        """Let one lane look: one flight more, or room for one. Waking them all cost a sixth of a core."""
        if not self._idle[Urgency.WARMUP].unpark():
            self._idle[Urgency.DEMAND].unpark()

    def stir_all(self) -> None:
        """Let every lane look."""
        for lot in self._idle.values():
            lot.unpark_all()
