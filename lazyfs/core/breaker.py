"""Whether a host is down, and when to try it again. Pure.

A host that is down is asked by one request at a time, with growing pauses between them, instead of by
everybody; the first sign of life lets everybody go on. It counts as down after a run of failures that nothing
interrupted: a host that fails now and then is not down, and one bad object among good ones is not the host's
fault. So failures that name an object must be about several; those to connect at all are the host's.

The pattern is the "circuit breaker" of M. Nygard, *Release It!*, chapter 5.
"""

from collections.abc import Hashable

RUN = 5
"""So many failures in a row, at least,"""
RUN_S = 0.5
"""during so long, at least,"""
OBJECTS = 2
"""about so many objects, at least, unless no connection could be made."""
PAUSE_S = 0.1
"""Before the first try; twice as long after each that failed,"""
PAUSE_MAX_S, PAUSE_WAITED_MAX_S = 10.0, 1.0
"""but no longer than that; the second while a reader waits."""
TRY_S = 2.0
"""A try without an answer keeps others from trying for so long."""


class Breaker:
    """One host. Times are of one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._failures = self._unreachable = 0
        self._began_at_s = 0.0
        self._objects: set[Hashable] = set()
        self._pause_s: float | None = None
        """How long to wait for the next try; None while the host is not down."""
        self._since_s = 0.0
        self._trying = False

    @property
    def down(self) -> bool:
        """Whether requests are held back."""
        return self._pause_s is not None

    def failed(self, now_s: float, about: Hashable | None) -> None:
        """Say that a request failed; `about` is its object, None when there was not even a connection."""
        if self._pause_s is not None:
            if self._trying:
                self._trying, self._since_s = False, now_s
                self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            return
        if not self._failures:
            self._began_at_s = now_s
        self._failures += 1
        if about is None:
            self._unreachable += 1
        else:
            self._objects.add(about)
        certain = self._unreachable >= RUN or (self._failures >= RUN and len(self._objects) >= OBJECTS)
        if certain and now_s - self._began_at_s >= RUN_S:
            self._pause_s, self._since_s = PAUSE_S, now_s

    def wait_s(self, now_s: float, *, waited: bool) -> float:
        """Return after how long a request may go: at once, unless the host is down; then one, in its time."""
        if self._pause_s is None:
            return 0.0
        pause_s = min(self._pause_s, PAUSE_WAITED_MAX_S if waited else PAUSE_MAX_S)
        if self._trying:
            pause_s = max(pause_s, TRY_S)
        return max(0.0, self._since_s + pause_s - now_s)

    def admit(self, now_s: float, *, waited: bool) -> bool:
        """Tell whether this request may go now (`wait_s`); if the host is down, it is the one that tries."""
        if self.wait_s(now_s, waited=waited):
            return False
        if self._pause_s is not None:
            if self._trying:
                self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            self._trying, self._since_s = True, now_s
        return True
