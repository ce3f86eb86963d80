"""The lanes: each takes a flight, fetches it, says what became of it, and takes the next."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from lazyfs.core.fetchqueue import Urgency
from lazyfs.errors import BlockCorrupt
from lazyfs.streaming.breakers import Held
from lazyfs.streaming.fetcher import Fetcher
from lazyfs.streaming.flight import Flight, Tier
from lazyfs.streaming.tower import Tower

DEMAND_LANES = 4
"""Lanes beyond `--connections` that only demand uses: a reader never waits for speculation to end."""
DISK_LANES = 4


@dataclass(frozen=True, slots=True)
class Desk:
    """Where lanes get flights, and whom they tell how those ended: the loader's methods."""

    board: Callable[[Tier, Urgency], Awaitable[Flight]]
    prepare: Callable[[Flight], Awaitable[None]]
    landed: Callable[[Flight], None]
    corrupt: Callable[[Flight, BlockCorrupt], None]
    failed: Callable[[Flight, Exception], None]
    held: Callable[[Flight], None]


class Lanes:
    """All lanes of both tiers."""

    def __init__(self, fetcher: Fetcher, tower: Tower, desk: Desk) -> None:
        self._fetcher = fetcher
        self._tower = tower
        self._desk = desk

    async def run(self) -> None:
        """Fly until cancelled."""
        connections = self._tower.concurrency.most
        disk = trio.CapacityLimiter(DISK_LANES)
        async with trio.open_nursery() as nursery:
            for number in range(connections + DEMAND_LANES):
                least = Urgency.WARMUP if number < connections else Urgency.DEMAND
                nursery.start_soon(self._network_lane, least)
            for _ in range(DISK_LANES):
                nursery.start_soon(self._disk_lane, disk)

    async def _network_lane(self, least: Urgency) -> None:
        while True:
            await self._fly_network(least)

    async def _disk_lane(self, limiter: trio.CapacityLimiter) -> None:
        while True:
            await self._fly_disk(limiter)

    # A function for each flight: a lane that rests must not hold on to the last one, and its memory.

    async def _fly_network(self, least: Urgency) -> None:
        flight = await self._desk.board(Tier.NETWORK, least)
        await self._desk.prepare(flight)
        self._tower.enter(flight)
        failed: Exception | None = None
        try:
            await self._fetcher.from_network(flight)
        except Exception as error:  # noqa: BLE001 - whatever it is, readers get an error, not a hang
            failed = error
        finally:
            self._tower.leave(flight)
        if failed is None:
            self._desk.landed(flight)
        elif isinstance(failed, Held):
            self._desk.held(flight)
        else:
            self._desk.failed(flight, failed)

    async def _fly_disk(self, limiter: trio.CapacityLimiter) -> None:
        flight = await self._desk.board(Tier.DISK, Urgency.WARMUP)
        try:
            await self._fetcher.from_disk(flight, limiter)
        except BlockCorrupt as error:
            self._desk.corrupt(flight, error)
        except Exception as error:  # noqa: BLE001 - as above
            self._desk.failed(flight, error)
        else:
            self._desk.landed(flight)
