"""Readers that wait: how long each bears trouble with its source, and what it is told then.

The deadline is a reader's, not a block's or a flight's: it runs from the READ until the bytes are there,
whichever flights they come by, and through the kernel's own repeats (`core.repeats`). Past it a reader is
told what is wrong as soon as something is: while bytes come it waits on, for a slow link is no trouble.
"""

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import trio

from lazyfs.core.blob import ByteRange
from lazyfs.core.repeats import REPEAT_S, FailedRead, Repeats, meet
from lazyfs.errors import LazyfsError, SourceUnavailable
from lazyfs.streaming.fetcher import Fetcher
from lazyfs.streaming.flight import Flight, Tier
from lazyfs.streaming.gets import SILENT_S

LOOK_S = 0.1
"""A wait is judged so long after its deadline, and then as often: what has come while this process was
stopped must be heard of first."""
INHERITED_S = 1.0
"""How long a reader waits at least whom another process has let wait: until its source is connected here."""
REPEATED_S = 0.3
"""How long a read waits that the kernel repeats: long enough for one more try."""


class Wait:
    """One READ that waits for its bytes."""

    def __init__(self, patience_s: float, since_s: float | None, silent_from_s: float | None = None) -> None:
        """`since_s`: when its reader began to wait, by `time.monotonic()`, if that was before.

        `silent_from_s`: from when on it counts against the source that nothing comes, if that was before.
        """
        self.began_at_s = trio.current_time()
        self.silent_from_s = self.began_at_s if silent_from_s is None else silent_from_s
        self.patience_s = patience_s
        self.since_s = time.monotonic() if since_s is None else since_s
        self.flight: Flight | None = None
        """What it waits for now."""

    @property
    def waited_s(self) -> float:
        """How long its reader has waited. Any thread may ask."""
        return time.monotonic() - self.since_s

    def due_at_s(self, flight: Flight) -> float:
        """Return from when on trouble with a flight is its reader's; that with a disk is not the source's."""
        return max(self.began_at_s, flight.network_since_s) + self.patience_s


class Waits:
    """All of them."""

    def __init__(self, patience_s: float, fetcher: Fetcher) -> None:
        self._patience_s = patience_s
        self._fetcher = fetcher
        self._repeats = Repeats()
        self._open: dict[Wait, None] = {}
        self._elsewhere: list[tuple[int, ByteRange, float]] = []

    def expect(self, elsewhere: Iterable[tuple[int, ByteRange, float]]) -> None:
        """Say which reads wait at another process: inode, span, since when by `time.monotonic()`.

        When one fails there, the kernel's repeat comes here.
        """
        self._elsewhere = list(elsewhere)

    def _inherited_s(self, inode: int, span: ByteRange) -> float | None:
        """Return since when a reader has waited elsewhere that this READ may be of; None if there is none."""
        over_s = time.monotonic() - self._patience_s - REPEAT_S
        self._elsewhere = [one for one in self._elsewhere if one[2] > over_s]
        return min(
            (since for at, other, since in self._elsewhere if at == inode and meet(other, span)), default=None
        )

    @contextmanager
    def begin(self, inode: int, span: ByteRange, inherited_s: float | None = None) -> Iterator[Wait]:
        """Give the wait of a READ for the length of the block.

        `inherited_s` is since when its reader waits, by `time.monotonic()`, if that was before.
        """
        before = self._repeats.repeated(inode, span, trio.current_time())
        wait = self._begun(inode, span, inherited_s) if before is None else self._again(before)
        self._open[wait] = None
        try:
            yield wait
        except LazyfsError as error:
            # A repeat that fails is none to begin with: who goes on asking waits anew in the end.
            if before is not None:
                before.repeats += 1
            elif error.retryable:
                self._repeats.failed(inode, span, wait.since_s, trio.current_time())
            raise
        finally:
            del self._open[wait]

    def _begun(self, inode: int, span: ByteRange, inherited_s: float | None) -> Wait:
        if inherited_s is None:
            inherited_s = self._inherited_s(inode, span)
        if inherited_s is None:
            return Wait(self._patience_s, None)
        left_s = self._patience_s - (time.monotonic() - inherited_s)
        return Wait(max(left_s, min(INHERITED_S, self._patience_s)), inherited_s)

    def _again(self, before: FailedRead) -> Wait:
        """Return the wait of a repeat; where the source was tried often enough it is judged at once."""
        return Wait(0.0 if before.tried else min(REPEATED_S, self._patience_s), before.since_s, before.at_s)

    def oldest(self) -> Wait | None:
        """Return the wait of the reader who has waited longest. Any thread may ask."""
        return min(list(self._open), key=lambda wait: wait.since_s, default=None)

    @property
    def in_trouble(self) -> bool:
        """Whether a reader waits because something is wrong, and not only for its turn."""
        now_s = trio.current_time()
        waited = [(wait.flight, now_s - wait.began_at_s) for wait in self._open if wait.flight is not None]
        return any(
            self._wrong(flight, waited_s, waited_s) is not None
            for flight, waited_s in waited
            if waited_s > SILENT_S
        )

    async def reach(self, wait: Wait, flight: Flight, stop: int) -> None:
        """Wait until the flight's block has its bytes before `stop`.

        Raises:
            LazyfsError: when the flight failed, or past the wait's deadline what is wrong with it.

        """
        wait.flight = flight
        look_s = LOOK_S if wait.patience_s else 0.0
        while True:
            with trio.move_on_at(max(wait.due_at_s(flight), trio.current_time()) + look_s):
                await flight.reach(stop)
                return
            error = self._trouble(wait, flight)
            if error is not None:
                raise error
            look_s = LOOK_S

    def _trouble(self, wait: Wait, flight: Flight) -> LazyfsError | None:
        """Return what is wrong, past the deadline; None while bytes come, or it is not the source's fault."""
        now_s = trio.current_time()
        if now_s < wait.due_at_s(flight):
            return None
        silent_s = now_s - max(wait.silent_from_s, flight.network_since_s)
        return self._wrong(flight, silent_s, max(wait.patience_s, REPEATED_S))

    def _wrong(self, flight: Flight, waited_s: float, patience_s: float) -> LazyfsError | None:
        """Return what is wrong with a flight that was waited for so long."""
        if flight.tier is Tier.DISK or flight.of_a_file:
            return None
        if flight.failing is not None:
            # A copy each: raising one object in several tasks would mix their tracebacks.
            return copy.copy(flight.failing)
        if flight.host in self._fetcher.breakers.down:
            return SourceUnavailable(self._fetcher.breakers.reason(flight.host))
        if self._fetcher.silent_s() >= waited_s:
            return SourceUnavailable(f"nothing has come from the source for {waited_s:.0f} s")
        if self._fetcher.quiet_s(flight) > min(SILENT_S, patience_s):
            return SourceUnavailable(f"no answer from {flight.host} within the deadline")
        return None
