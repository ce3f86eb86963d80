"""Which reads repeat one that has just failed: the kernel's own tries, for the same reader. Pure.

When a READ fails the kernel asks once more for the page somebody waits for, and for a page fault twice
(`filemap_read_folio` in mm/filemap.c; the fault's first error is dropped with the lock). To the reader that
is one wait. So such a read does not begin a wait of its own; it goes on with the one that failed.
"""

from collections import deque
from dataclasses import dataclass

from lazyfs.core.blob import ByteRange

REPEAT_S = 1.5
"""A repeat comes at once; so much later, on a machine that is busy, and after repeats before it."""
TRIES = 2
"""So many repeats are given time for one more try of the source; a page fault has no more of its own.

Who comes after them is another reader: the kernel lets those who want one page ask one after the other, and
with a try for each the last of many would have its error long after its deadline.
"""


@dataclass(slots=True)
class FailedRead:
    """A read that failed a moment ago, and what came of the repeats."""

    inode: int
    span: ByteRange
    since_s: float
    """Since when its reader has waited."""
    at_s: float
    """When it failed."""
    repeats: int = 0
    """How many repeats have failed, too."""

    @property
    def tried(self) -> bool:
        """Whether the source was tried again often enough."""
        return self.repeats >= TRIES


class Repeats:
    """The reads that failed a moment ago. Times are of one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._failed: deque[FailedRead] = deque()

    def failed(self, inode: int, span: ByteRange, since_s: float, now_s: float) -> None:
        """Say that a read has failed whose reader has waited since `since_s` (of any clock)."""
        self._forget(now_s)
        self._failed.append(FailedRead(inode, span, since_s, now_s))

    def repeated(self, inode: int, span: ByteRange, now_s: float) -> FailedRead | None:
        """Return the read that one of this span repeats, that of who waits longest; None if there is none."""
        self._forget(now_s)
        found = [one for one in self._failed if one.inode == inode and meet(one.span, span)]
        return min(found, key=lambda one: one.since_s, default=None)

    def _forget(self, now_s: float) -> None:
        while self._failed and now_s - self._failed[0].at_s > REPEAT_S:
            self._failed.popleft()


def meet(one: ByteRange, other: ByteRange) -> bool:
    """Tell whether two spans have a byte in common."""
    return one.start < other.stop and other.start < one.stop
