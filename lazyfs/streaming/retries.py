"""Flights that wait to be tried again. They occupy no lane, and keep what has landed of their blocks."""

import random
from collections.abc import Callable

import trio

from lazyfs.core.backoff import Backoff
from lazyfs.core.blob import BlockKey
from lazyfs.errors import LazyfsError, SourceThrottled
from lazyfs.streaming.flight import Flight


class Retries:
    """Sends flights `back` when their time has come. `run` must run."""

    def __init__(self, backoff: Backoff, back: Callable[[Flight], None]) -> None:
        self._backoff = backoff
        self._back = back
        self._resting: dict[BlockKey, Flight] = {}
        self._nursery: trio.Nursery | None = None

    def delay_s(self, flight: Flight, error: LazyfsError) -> float | None:
        """Return in how many seconds a flight should be tried again; None when it should not."""
        hint_s = error.retry_after_s if isinstance(error, SourceThrottled) else None
        delay_s = self._backoff.delay_s(flight.attempt, random.random(), hint_s)  # noqa: S311
        in_time = trio.current_time() + delay_s < flight.deadline_at_s
        return delay_s if error.retryable and in_time else None

    def later(self, flight: Flight, delay_s: float) -> None:
        """Send a flight back after a while."""
        if flight.block is not None:
            self._resting[flight.key] = flight
        assert self._nursery is not None
        self._nursery.start_soon(self._rest, flight, delay_s)

    def take_one(self) -> Flight | None:
        """Return a flight whose memory others may have; it goes on resting without."""
        return self._resting.popitem()[1] if self._resting else None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the time until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def _rest(self, flight: Flight, delay_s: float) -> None:
        await trio.sleep(delay_s)
        self._resting.pop(flight.key, None)
        self._back(flight)
