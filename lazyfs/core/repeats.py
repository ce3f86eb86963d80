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


@dataclass(frozen=True, slots=True)
class _Failed:
    inode: int
    span: ByteRange
    since_s: float
    at_s: float


class Repeats:
    """The reads that failed a moment ago. Times are of one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._failed: deque[_Failed] = deque()

    def failed(self, inode: int, span: ByteRange, since_s: float, now_s: float) -> None:
        """Say that a read has failed whose reader has waited since `since_s` (of any clock)."""
        self._forget(now_s)
        self._failed.append(_Failed(inode, span, since_s, now_s))

    def since_s(self, inode: int, span: ByteRange, now_s: float) -> float | None:
        """Return since when the reader of this span has waited, if it repeats a read; else None."""
        self._forget(now_s)
        found = [one.since_s for one in self._failed if one.inode == inode and _meet(one.span, span)]
        return min(found, default=None)

    def _forget(self, now_s: float) -> None:
        while self._failed and now_s - self._failed[0].at_s > REPEAT_S:
            self._failed.popleft()


def _meet(one: ByteRange, other: ByteRange) -> bool:
    return one.start < other.stop and other.start < one.stop
