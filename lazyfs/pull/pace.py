"""How far the network may run ahead of the disk: what has landed and is not written is lost with the process.

A block has its place from the request for it until it is on disk, and there are not many more places than
connections. A pull that is killed then fetches no more than one block per lane again, however slow its disk
is. Some more there must be: blocks that were asked for together land together, and their connections should
not wait until all of them are written.
"""

from collections.abc import Callable

from lazyfs.core.blob import BlockKey
from lazyfs.core.concurrency import Concurrency
from lazyfs.streaming.warmer import Warmer, WarmPlan

MORE = 1.5
"""Places for each connection, as long as there are lanes for them."""


class PacedWarmer(Warmer):
    """A warmer that has nothing to fetch while all places are taken."""

    def __init__(self, plan: WarmPlan, has: Callable[[BlockKey], bool], concurrency: Concurrency) -> None:
        super().__init__(plan, has)
        self._concurrency = concurrency
        self.under_way: Callable[[], int] = int
        """Says how many blocks are being fetched, or are not on disk yet."""

    def next(self) -> BlockKey | None:
        """Return the block to fetch next; None when there is none, or no place for it."""
        places = min(int(MORE * self._concurrency.limit), self._concurrency.most)
        return super().next() if self.under_way() < places else None
