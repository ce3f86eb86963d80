"""Flights that wait to be tried again. They occupy no lane, and keep what has landed of their blocks.

Most come back after a while of their own. Those whose host is down come back together when it is up again;
until then one of them at a time is sent to see.
"""

import random
from collections.abc import Callable

import trio

from lazyfs.core.backoff import Backoff
from lazyfs.core.blob import BlockKey
from lazyfs.errors import LazyfsError, SourceThrottled, SourceUnavailable
from lazyfs.streaming.breakers import Breakers
from lazyfs.streaming.flight import Flight

HASTE_S = 0.2
"""A flight that a reader comes to wait for rests no longer than that, unless its source has named a time.

Less than what a read has that the kernel repeats (`waits.REPEATED_S`), or it would end without a try.
"""
TICK_S, TICK_MAX_S = 0.05, 1.0
"""How soon held flights are looked at again; at the latest, for a reader may have come to wait."""


class _Rest:
    """A flight's rest. Its end may come nearer."""

    def __init__(self, delay_s: float) -> None:
        self.began_at_s = trio.current_time()
        self.until_s = self.began_at_s + delay_s
        self.scope = trio.CancelScope()


class Retries:
    """Sends flights `back` when their time has come; `fail`s those whose deadline passes. `run` must run."""

    def __init__(
        self,
        backoff: Backoff,
        breakers: Breakers,
        back: Callable[[Flight], None],
        fail: Callable[[Flight, LazyfsError], None],
    ) -> None:
        self._backoff = backoff
        self._breakers = breakers
        self._back = back
        self._fail = fail
        self._resting: dict[BlockKey, Flight] = {}
        self._held: dict[Flight, None] = {}
        """In the order in which they came: whoever has tried in vain is last."""
        self._rests: dict[Flight, _Rest] = {}
        self._nursery: trio.Nursery | None = None
        self._some_held = trio.Event()

    def delay_s(self, flight: Flight, error: LazyfsError) -> float | None:
        """Return in how many seconds a flight should be tried again; None when it should not."""
        hint_s = error.retry_after_s if isinstance(error, SourceThrottled) else None
        delay_s = self._backoff.delay_s(flight.attempt, random.random(), hint_s)  # noqa: S311
        if flight.host in self._breakers.down:
            delay_s = 0.0  # it is the host's state that decides
        in_time = trio.current_time() < flight.deadline_at_s
        return delay_s if error.retryable and in_time else None

    @property
    def holding(self) -> bool:
        """Whether some flights wait for their hosts."""
        return bool(self._held)

    def later(self, flight: Flight, delay_s: float) -> None:
        """Send a flight back after a while, or when its host is up again."""
        if flight.block is not None:
            self._resting[flight.key] = flight
        if flight.host in self._breakers.down:
            self._held[flight] = None
            self._some_held.set()
            return
        assert self._nursery is not None
        self._rests[flight] = _Rest(delay_s)
        self._nursery.start_soon(self._rest, flight)

    @property
    def resting_count(self) -> int:
        """How many flights wait to be tried again."""
        return len(self._resting)

    def hasten(self, flight: Flight) -> None:
        """Say that a reader has come to wait: it should not find that nobody has tried for it."""
        rest = self._rests.get(flight)
        if rest is not None and not isinstance(flight.last_error, SourceThrottled):
            rest.until_s = min(rest.until_s, rest.began_at_s + HASTE_S)
            rest.scope.deadline = min(rest.scope.deadline, rest.until_s)

    def take_one(self) -> Flight | None:
        """Return a flight whose memory others may have; it goes on resting without."""
        return self._resting.popitem()[1] if self._resting else None

    def up(self, host: str) -> None:
        """Send back all flights that wait for a host."""
        for flight in [flight for flight in self._held if flight.host == host]:
            self._return(flight)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the time until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await self._some_held.wait()
                wait_s = self._look()
                if not self._held:
                    self._some_held = trio.Event()
                await trio.sleep(max(TICK_S, wait_s))

    def _look(self) -> float:
        """Fail held flights whose time is up, send one of each host that may be tried; say when to look."""
        now_s = trio.current_time()
        for flight in [flight for flight in self._held if flight.deadline_at_s <= now_s]:
            self._forget(flight)
            self._fail(flight, SourceUnavailable(self._breakers.reason(flight.host)))
        waits_s = [TICK_MAX_S, *(flight.deadline_at_s - now_s for flight in self._held)]
        for host in self._breakers.down:
            held = [flight for flight in self._held if flight.host == host]
            waited = [flight for flight in held if flight.waiting]
            waits_s.append(self._breakers.wait_s(host, waited=bool(waited)))
            if held and not waits_s[-1]:
                self._return((waited or held)[0])
        return min(waits_s)

    async def _rest(self, flight: Flight) -> None:
        """Keep a flight until its rest is over; fail it at its deadline if that comes before."""
        rest = self._rests[flight]
        while (now_s := trio.current_time()) < rest.until_s:
            if now_s >= flight.deadline_at_s:
                break
            with trio.CancelScope(deadline=min(rest.until_s, flight.deadline_at_s)) as rest.scope:
                await trio.sleep_forever()
        del self._rests[flight]
        if now_s < rest.until_s and flight.last_error is not None:
            self._forget(flight)
            self._fail(flight, flight.last_error)
        else:
            self._return(flight)

    def _return(self, flight: Flight) -> None:
        self._forget(flight)
        self._back(flight)

    def _forget(self, flight: Flight) -> None:
        self._resting.pop(flight.key, None)
        self._held.pop(flight, None)
