"""Which block is fetched next: three urgencies, first come first served within each.

This is the meeting place of demand, read-ahead and warm-up. It is synchronous on purpose: between two awaits
nothing can come between a look-up and the request that follows from it, so a block is never in flight twice
(docs/concurrency.md).
"""

from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Urgency(IntEnum):
    """Why a block is wanted; lower goes first."""

    DEMAND = 0
    """A reader waits for it."""
    READAHEAD = 1
    """It lies just ahead of a reader."""
    WARMUP = 2
    """It will be wanted some day."""


class FetchQueue(Generic[Key]):
    """States of a key: unknown -> queued -> in flight -> unknown. In flight at most once."""

    def __init__(self) -> None:
        self._queued: dict[Urgency, dict[Key, None]] = {urgency: {} for urgency in Urgency}
        self._in_flight: set[Key] = set()

    def request(self, key: Key, urgency: Urgency) -> bool:
        """Queue `key`, or promote it if it waits with less urgency.

        Returns False when that changes nothing: it is in flight already, or queued as urgently.
        """
        if key in self._in_flight:
            return False
        for level, keys in self._queued.items():
            if key in keys:
                if level <= urgency:
                    return False
                del keys[key]
                break
        self._queued[urgency][key] = None
        return True

    def head(self, least: Urgency = Urgency.WARMUP) -> tuple[Key, Urgency] | None:
        """Return what `take` would take, and leave it queued."""
        for urgency, keys in self._queued.items():
            if urgency > least:
                break
            for key in keys:
                return key, urgency
        return None

    def take(self, least: Urgency = Urgency.WARMUP) -> tuple[Key, Urgency] | None:
        """Move the most urgent key into flight and return it; None when none is urgent enough."""
        found = self.head(least)
        if found is not None:
            key, urgency = found
            del self._queued[urgency][key]
            self._in_flight.add(key)
        return found

    def adopt(self, key: Key) -> None:
        """Say that `key`, which nobody has requested here, is in flight."""
        assert key not in self._in_flight
        self._in_flight.add(key)

    def finish(self, key: Key) -> None:
        """Say that the flight of `key` has ended, well or not."""
        self._in_flight.remove(key)

    def depth(self, urgency: Urgency) -> int:
        """Return how many keys wait with this urgency."""
        return len(self._queued[urgency])

    @property
    def in_flight_count(self) -> int:
        """How many keys are in flight."""
        return len(self._in_flight)
