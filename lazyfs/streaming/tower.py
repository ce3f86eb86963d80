"""The flights in the air over the network: how many there may be.

Speculation boards while the blocks in the air are fewer than `Concurrency.limit`, counted in bytes, so that
heads and small files need not wait for large blocks. Demand boards always.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import trio

from lazyfs.core.concurrency import Concurrency
from lazyfs.streaming.flight import Flight

log = logging.getLogger(__name__)

TICK_S = 0.01
SPARE_SHARE = 0.3
"""So much of the machine's CPU time must be idle before more connections are tried."""


class Tower:
    """Knows the flights in the air. `run` must run for the limit to change; `stir` is told of more room."""

    def __init__(self, concurrency: Concurrency, block_bytes: int, stir: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self._block_bytes = block_bytes
        self._stir = stir
        self._air: dict[Flight, int] = {}
        self._air_bytes = 0
        self._received_bytes = 0
        """Bytes received by flights that have left, less what those in the air had when they entered."""
        self._entered = trio.Event()
        self._idle = IdleShare()

    @property
    def full(self) -> bool:
        """Whether speculation must wait."""
        return self._air_bytes >= self.concurrency.limit * self._block_bytes

    def enter(self, flight: Flight) -> None:
        """Say that a lane begins to fetch."""
        assert flight.block is not None
        self._air[flight] = flight.block.size_bytes
        self._air_bytes += flight.block.size_bytes
        self._received_bytes -= flight.filled_bytes
        self._entered.set()

    def leave(self, flight: Flight) -> None:
        """Say that it has ended, whatever came of it."""
        self._air_bytes -= self._air.pop(flight)
        self._received_bytes += flight.filled_bytes

    def throttled(self) -> None:
        """Say that the source wants fewer requests."""
        self.concurrency.throttled(trio.current_time())

    async def run(self) -> None:
        """Watch the rate and follow the limit."""
        limit = self.concurrency.limit
        while not self.concurrency.fixed:
            if not self._air:
                self._entered = trio.Event()
                await self._entered.wait()
            await trio.sleep(TICK_S)
            received = self._received_bytes + sum(flight.filled_bytes for flight in self._air)
            self.concurrency.observe(
                trio.current_time(), received, busy=self.full, spare_cpu=self._idle.spare
            )
            if self.concurrency.limit != limit:
                log.debug("connections limit=%d before=%d", self.concurrency.limit, limit)
                limit = self.concurrency.limit
                self._stir()


class IdleShare:
    """How much of the machine's CPU time is idle, since it was last asked (proc(5), /proc/stat)."""

    def __init__(self, file: Path = Path("/proc/stat")) -> None:
        self._file = file
        self._before = self._read()

    def _read(self) -> tuple[int, int]:
        try:
            with self._file.open() as lines:
                ticks = [int(field) for field in lines.readline().split()[1:9]]
            return ticks[3] + ticks[4], sum(ticks)
        except (OSError, ValueError, IndexError):
            return 0, 0  # a container may show something else there, or nothing

    def spare(self) -> bool:
        """Tell whether there is some to receive with."""
        before, self._before = self._before, self._read()
        total = self._before[1] - before[1]
        return total > 0 and self._before[0] - before[0] >= SPARE_SHARE * total
