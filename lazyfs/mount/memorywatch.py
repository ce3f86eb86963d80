"""Watches how much memory is left, and has the budget follow: speculation shrinks before readers wait."""

import logging

import trio

from lazyfs.core.memorybudget import squeezed_bytes
from lazyfs.mount.memory import headroom_bytes, limits
from lazyfs.streaming.loader import BlockLoader

log = logging.getLogger(__name__)

LOOK_S = 0.5
CALM_S = 30.0
"""For so long the budget must be whole before the next squeeze is told."""


class MemoryWatch:
    """Knows the budget that was wanted. `run` must run for it to follow what there is."""

    def __init__(self, wanted_bytes: int, block_bytes: int, loader: BlockLoader) -> None:
        self._wanted_bytes = self._budget_bytes = wanted_bytes
        self._block_bytes = block_bytes
        self._loader = loader
        self._squeezed_at_s = float("-inf")

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            # Files of the kernel, but on a large machine it may take milliseconds to add them up.
            left_bytes = await trio.to_thread.run_sync(_left_bytes, abandon_on_cancel=True)
            if left_bytes is not None:
                self.follow(left_bytes)
            await trio.sleep(LOOK_S)

    def follow(self, left_bytes: int) -> None:
        """Adapt to so much memory being left."""
        held_bytes = self._loader.held_bytes
        budget = squeezed_bytes(self._wanted_bytes, left_bytes, held_bytes, self._block_bytes)
        if budget != self._budget_bytes:
            self._budget_bytes = budget
            self._loader.resize(budget)
        if budget < self._wanted_bytes:
            if trio.current_time() - self._squeezed_at_s >= CALM_S:
                log.warning(
                    "memory_squeezed budget=%d wanted=%d left=%d cure=%r",
                    budget, self._wanted_bytes, left_bytes, "a larger memory limit, or a smaller --memory",
                )  # fmt: skip
            self._squeezed_at_s = trio.current_time()


def _left_bytes() -> int | None:
    return headroom_bytes(limits())
