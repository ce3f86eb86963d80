"""Warm-up: what to fetch when nobody waits. It starts with the mount, before anyone reads."""

from collections.abc import Callable, Iterator

import trio

from lazyfs.core.blob import HEAD, BlockKey
from lazyfs.core.plan import Planner

PAUSE_S = 5.0
"""After a flight that nobody waited for has failed, how long warm-up rests."""


class Warmer:
    """Feeds idle lanes from the plan, leaving out what the store has."""

    def __init__(self, planner: Planner, has: Callable[[BlockKey], bool]) -> None:
        self._planner = planner
        self._has = has
        self._resume_at_s = 0.0
        self.exhausted = False
        """Whether the plan had nothing left when it was last asked."""

    def first(self) -> Iterator[BlockKey]:
        """Yield what is wanted before any weight and is not stored."""
        for key in self._planner.first_wanted():
            if not self._has(BlockKey(key.inode, 0) if key.index == HEAD else key):
                yield key

    def next(self) -> BlockKey | None:
        """Return the block to fetch next; None when there is none, or warm-up rests."""
        if trio.current_time() < self._resume_at_s:
            return None
        while True:
            key = self._planner.next_warm()
            self.exhausted = key is None
            if key is None or not self._has(key):
                return key

    def mark(self, key: BlockKey) -> None:
        """Say that a block is on its way."""
        self._planner.mark(key)

    def give_up(self, inode: int) -> None:
        """Leave a blob out from now on: it has changed at its source."""
        self._planner.give_up(inode)

    def unmark(self, key: BlockKey) -> None:
        """Say that a block left before it was stored: warm-up will come back to it."""
        self._planner.unmark(key)

    def failed(self, key: BlockKey) -> None:
        """Take back a block whose flight failed, and rest a while: the source is in trouble."""
        self._planner.unmark(key)
        self._resume_at_s = trio.current_time() + PAUSE_S
