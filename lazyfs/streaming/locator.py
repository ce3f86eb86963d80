"""Locations: kept until they expire or are refused, renewed by one question for all who wait."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location, margin_s
from lazyfs.errors import LazyfsError, SourceThrottled, SourceUnavailable

LOCATE_S = 30.0
"""So long a question is waited for; who comes later asks anew."""
THREADS = 4


@dataclass(frozen=True, slots=True)
class _Known:
    """A location, and how long before it expires it will be renewed."""

    location: Location
    margin_s: float

    @classmethod
    def of(cls, location: Location, now_s: float) -> "_Known":
        """Judge a location by its life when it was given (`now_s`, of the epoch).

        One that is over when it comes was dated by another clock: it is good until it is refused.
        """
        if location.expires_at_s is None or location.expires_at_s <= now_s:
            return cls(location, -math.inf)
        return cls(location, margin_s(location.expires_at_s - now_s))

    @property
    def fresh(self) -> bool:
        """Whether it is good for a while."""
        return self.location.fresh(time.time(), self.margin_s)


class _Question:
    """A location that is being asked for; then the answer, or what went wrong."""

    def __init__(self) -> None:
        self.asked_at_s = trio.current_time()
        self.over = trio.Event()
        self.location: Location | None = None
        self.error: Exception | None = None


class Locator:
    """Caches `Source.locate`, which blocks and so runs in a thread.

    A source that throttles is left alone for as long as it says, whichever blob it is about.
    """

    def __init__(self, blobs: dict[int, BlobRef], locate: Callable[[BlobRef], Location]) -> None:
        self._blobs = blobs
        self._locate = locate
        self._known: dict[int, _Known] = {}
        self._questions: dict[int, _Question] = {}
        self._threads = trio.CapacityLimiter(THREADS)
        self._throttled: SourceThrottled | None = None
        self._ask_again_at_s = -math.inf

    async def current(self, inode: int, deadline_at_s: float) -> Location:
        """Return a location that is good for a while.

        Raises:
            SourceThrottled: when the source wants to be left alone for a while.
            SourceUnavailable: when the source has not answered in `LOCATE_S`, or by the deadline (trio time).
            LazyfsError: whatever the source raises.

        """
        known = self._known.get(inode)
        if known is not None and known.fresh:
            return known.location
        now_s, question = trio.current_time(), self._questions.get(inode)
        if question is None or now_s - question.asked_at_s >= LOCATE_S:
            self._leave_alone(now_s)
            # Not a child of whoever asks first: that one may be cancelled, and the others wait as well.
            question = self._questions[inode] = _Question()
            trio.lowlevel.spawn_system_task(self._ask, inode, question)
        with trio.move_on_at(min(question.asked_at_s + LOCATE_S, max(deadline_at_s, now_s))):
            await question.over.wait()
        if question.error is not None:
            # A copy each: raising one object in several tasks would mix their tracebacks.
            raise copy.copy(question.error) if isinstance(question.error, LazyfsError) else question.error
        if question.location is None:
            raise SourceUnavailable("the source does not say in time where the object is")
        return question.location

    def _leave_alone(self, now_s: float) -> None:
        """Raise what the source said when it throttled, unless the time it named is over."""
        if self._throttled is not None and now_s < self._ask_again_at_s:
            said = self._throttled
            raise SourceThrottled(said.cause, said.cure, self._ask_again_at_s - now_s)

    async def _ask(self, inode: int, question: _Question) -> None:
        try:
            question.location = await trio.to_thread.run_sync(
                self._locate, self._blobs[inode], abandon_on_cancel=True, limiter=self._threads
            )
            self._known[inode] = _Known.of(question.location, time.time())
        except SourceThrottled as error:
            question.error = self._throttled = error
            self._ask_again_at_s = trio.current_time() + (error.retry_after_s or 0.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait raise it
            question.error = error
        finally:
            if self._questions.get(inode) is question:
                del self._questions[inode]
            question.over.set()

    def refuse(self, inode: int, location: Location) -> None:
        """Say that `location` was refused: unless it has been renewed already, it will be."""
        known = self._known.get(inode)
        if known is not None and known.location is location:
            del self._known[inode]
