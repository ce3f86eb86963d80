"""Warm-up: what to fetch when nobody waits. It starts with the mount, before anyone reads."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import trio

from lazyfs.core.blob import HEAD, BlockKey

PAUSE_S = 5.0
"""How long warm-up rests after a flight has failed."""


class WarmPlan(Protocol):
    """`core.plan.Planner`, or `core.wholeplan.WholePlan`: what comes next, and what need not."""

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left."""

    def first_wanted(self) -> Sequence[BlockKey]:
        """Return what is wanted before everything else."""

    def next_warm(self) -> BlockKey | None:
        """Return, and mark, the block that comes next; None when there is none."""

    def mark(self, key: BlockKey) -> None:
        """Say that a block is here or on its way."""

    def unmark(self, key: BlockKey) -> None:
        """Say that a block is not coming after all."""

    def give_up(self, inode: int) -> None:
        """Say that a blob cannot be had any more."""


class Warmer:
    """Feeds idle lanes from the plan, leaving out what the store has."""

    def __init__(self, planner: WarmPlan, has: Callable[[BlockKey], bool]) -> None:
        self._planner = planner
        self._has = has
        self._resume_at_s = 0.0
        self.resting = False
        """Whether it fetches nothing for a while, because a flight failed or the source wants it so."""

    @property
    def exhausted(self) -> bool:
        """Whether warm-up has nothing left to fetch."""
        return self._planner.exhausted

    def first(self) -> Iterator[BlockKey]:
        """Yield what is wanted before any weight and is not stored."""
        for key in self._planner.first_wanted():
            if not self._has(BlockKey(key.inode, 0) if key.index == HEAD else key):
                yield key

    def next(self) -> BlockKey | None:
        """Return the block to fetch next; None when there is none, or warm-up rests."""
        self.resting = trio.current_time() < self._resume_at_s
        if self.resting:
            return None
        while True:
            key = self._planner.next_warm()
            if key is None or not self._has(key):
                return key

    def mark(self, key: BlockKey) -> None:
        """Say that a block is on its way."""
        self._planner.mark(key)

    def stop(self) -> None:
        """Fetch nothing more: somebody else takes over."""
        self._resume_at_s = math.inf

    def give_up(self, inode: int) -> None:
        """Leave a blob out from now on: it has changed at its source."""
        self._planner.give_up(inode)

    def unmark(self, key: BlockKey) -> None:
        """Say that a block left before it was stored: warm-up will come back to it."""
        self._planner.unmark(key)

    def failed(self, key: BlockKey) -> None:
        """Take back a block whose flight failed, and rest a while: the source is in trouble."""
        self._planner.unmark(key)
        self.rest(PAUSE_S)

    def rest(self, seconds: float) -> None:
        """Fetch nothing for so long, `PAUSE_S` at most: block by block it would only be refused."""
        self.resting = True
        self._resume_at_s = max(self._resume_at_s, trio.current_time() + min(seconds, PAUSE_S))
