"""Blocks: in memory, or in flight once for everybody who wants them.

Demand, read-ahead and warm-up meet here. The states are in a pure `FetchQueue` per tier and a pure `Ledger`;
this shell moves flights between them. Everything between two awaits is atomic; there are no locks.
"""

import copy
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio

from lazyfs.core.backoff import Backoff
from lazyfs.core.blob import BlockKey
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.ledger import Ledger
from lazyfs.errors import BlobChanged, BlockCorrupt, BlockGone, LazyfsError, SourceThrottled
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.flight import Block, Buffers, Flight, Tier
from lazyfs.streaming.pool import Pool
from lazyfs.streaming.traffic import Traffic
from lazyfs.streaming.warmer import Warmer
from lazyfs.streaming.writer import STORED, Writer
from lazyfs.telemetry.metrics import (
    BLOBS_CHANGED,
    BLOCKS_DECLINED,
    BLOCKS_REPAIRED,
    ERRORS,
    FETCH_BYTES,
    FETCH_REQUESTS,
    FETCH_SECONDS,
    RETRIES,
    Meter,
)
from lazyfs.transport.lane import Lane

log = logging.getLogger(__name__)

DEMAND_LANES = 4
"""Lanes beyond `--connections` that only demand uses: a reader never waits for speculation to end."""
DISK_LANES = 4
STORED_IDLE_S = 3.0
"""An untouched block that can be read back from disk leaves memory after this long."""
ANY_IDLE_S = 60.0
"""One that cannot leaves after this long."""
TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds: connections of speculation, seconds that trouble is retried, and how retries are spaced."""

    connections: int
    read_deadline_s: float
    backoff: Backoff = field(default_factory=Backoff)


class BlockLoader:
    """See the module's docstring. `run` must run; everything else is synchronous but `load`."""

    def __init__(
        self,
        blobs: Blobs,
        fetcher: Fetcher,
        ledger: Ledger[BlockKey],
        warmer: Warmer,
        limits: Limits,
        meter: Meter,
        has: Callable[[BlockKey], bool],
    ) -> None:
        self._blobs = blobs
        self._fetcher = fetcher
        self._ledger = ledger
        self._warmer = warmer
        self._limits = limits
        self._meter = meter
        self._has = has
        self._writer: Writer | None = None
        self._pools = {Tier.DISK: Pool(), Tier.NETWORK: Pool()}
        self._blocks: dict[BlockKey, Block] = {}
        self._flights: dict[BlockKey, Flight] = {}
        self.traffic = Traffic(self._flights, self._pools)
        self._buffers = Buffers()
        self._resting: dict[BlockKey, Flight] = {}
        """Flights that wait to be tried again, and keep what has landed of their blocks."""
        self._changed: dict[int, BlobChanged] = {}
        self._landed: set[BlockKey] = set()
        self._retries: trio.Nursery | None = None
        self.landed_bytes = 0
        """Bytes of distinct blocks that came from the network."""
        self.last_error = ""

    def keep_with(self, write: Callable[[BlockKey, memoryview], str]) -> Writer:
        """Store what lands through `write`; the returned writer must run."""
        self._writer = Writer(write, self._settled)
        return self._writer

    # -- for readers ---------------------------------------------------------------------------------

    def peek(self, key: BlockKey, stop: int) -> Block | None:
        """Return the block if its bytes before `stop` are in memory."""
        block = self._blocks.get(key)
        return block if block is not None and block.filled_bytes >= stop else None

    def demand(self, key: BlockKey) -> tuple[Flight, bool]:
        """Have a block that is not in memory fetched first; return its flight, and whether it is a new one.

        Raises:
            BlobChanged: when the blob is known to have changed, and the store has not got this block of it.

        """
        new = key not in self._flights
        if new and key.inode in self._changed and not self._has(key):
            raise copy.copy(self._changed[key.inode])
        return self._request(key, Urgency.DEMAND), new

    async def load(self, key: BlockKey, stop: int) -> Block:
        """Return the block once its bytes before `stop` are in memory.

        Raises:
            LazyfsError: when it could not be had.

        """
        # It may have left memory between its landing and our turn: after every await, look again.
        while (block := self.peek(key, stop)) is None:
            flight, _ = self.demand(key)
            await flight.reach(stop)
        return block

    def served(self, key: BlockKey, count_bytes: int) -> None:
        """Say that a reader was given so many of the block's bytes."""
        if self._ledger.touch(key, count_bytes, trio.current_time()):
            self.stir()

    def hint(self, keys: Iterable[BlockKey], urgency: Urgency) -> None:
        """Have blocks fetched that may be wanted; never waits, never raises."""
        for key in keys:
            if key not in self._blocks and (key.inode not in self._changed or self._has(key)):
                self._request(key, urgency)

    # -- flights -------------------------------------------------------------------------------------

    def _request(self, key: BlockKey, urgency: Urgency) -> Flight:
        now_s = trio.current_time()
        deadline_at_s = now_s + self._limits.read_deadline_s
        flight = self._flights.get(key)
        if flight is None:
            tier = Tier.DISK if self._has(key) else Tier.NETWORK
            flight = self._flights[key] = Flight(key, urgency, tier, now_s, deadline_at_s)
        elif urgency is Urgency.DEMAND:
            # Whoever comes late still gets the whole deadline.
            flight.deadline_at_s = deadline_at_s
        flight.urgency = min(flight.urgency, urgency)
        self._warmer.mark(key)
        pool = self._pools[flight.tier]
        if pool.queue.request(key, urgency):
            pool.stir()
        return flight

    async def run(self) -> None:
        """Fly until cancelled."""
        connections = self._limits.connections
        network, disk = trio.CapacityLimiter(connections + DEMAND_LANES), trio.CapacityLimiter(DISK_LANES)
        async with trio.open_nursery() as nursery:
            self._retries = nursery
            for number in range(connections + DEMAND_LANES):
                least = Urgency.WARMUP if number < connections else Urgency.DEMAND
                nursery.start_soon(self._network_lane, network, least)
            for _ in range(DISK_LANES):
                nursery.start_soon(self._disk_lane, disk)
            nursery.start_soon(self._trim)

    async def _network_lane(self, limiter: trio.CapacityLimiter, least: Urgency) -> None:
        lane = Lane()
        try:
            while True:
                await self._fly_network(lane, limiter, least)
        finally:
            lane.close()

    # A function for each flight: a lane that rests must not hold on to the last one, and its memory.

    async def _fly_network(self, lane: Lane, limiter: trio.CapacityLimiter, least: Urgency) -> None:
        flight = await self._board(Tier.NETWORK, least)
        try:
            await self._fetcher.from_network(flight, lane, limiter)
        except Exception as error:  # noqa: BLE001 - whatever it is, readers get an error, not a hang
            self._trouble(flight, error)
        else:
            self._land(flight)

    async def _disk_lane(self, limiter: trio.CapacityLimiter) -> None:
        while True:
            await self._fly_disk(limiter)

    async def _fly_disk(self, limiter: trio.CapacityLimiter) -> None:
        flight = await self._board(Tier.DISK, Urgency.WARMUP)
        try:
            await self._fetcher.from_disk(flight, limiter)
        except BlockCorrupt as error:
            self._repair(flight, error)
        except Exception as error:  # noqa: BLE001 - as above
            self._trouble(flight, error)
        else:
            self._land(flight)

    async def _board(self, tier: Tier, least: Urgency) -> Flight:
        """Wait for a flight of at least this urgency that memory has room for; take it."""
        pool = self._pools[tier]
        while True:
            returned = pool.returned(least)
            if returned is not None:
                return returned
            found = pool.queue.head(least)
            if found is None and least is Urgency.WARMUP and tier is Tier.NETWORK:
                warm = self._warmer.next()
                if warm is not None:
                    self.hint((warm,), Urgency.WARMUP)
                    continue
            if found is not None and self._admit(*found):
                pool.queue.take(least)
                return self._flights[found[0]]
            await pool.rest(least)

    def _admit(self, key: BlockKey, urgency: Urgency) -> bool:
        """Give the flight its memory, if there is room."""
        flight, size = self._flights[key], self._blobs.span(key).size_bytes
        victims = self._ledger.admit(key, size, urgency, trio.current_time())
        while victims is None and urgency is Urgency.DEMAND and self._resting:
            self._unload(self._resting.popitem()[1])
            victims = self._ledger.admit(key, size, urgency, trio.current_time())
        if victims is None:
            return False
        for victim in victims:
            self._let_go(victim)
            if self._writer is not None and self._writer.cancel(victim):
                self._meter.add(BLOCKS_DECLINED, label="memory")
                self._warmer.unmark(victim)
        # What waits to be used again lives inside the budget too.
        self._buffers.trim(self._ledger.capacity_bytes - self._ledger.used_bytes + size)
        try:
            flight.block = self._blocks[key] = self._buffers.take(size)
        except OSError as error:
            self._ledger.drop(key)
            log.warning(
                "memory_refused bytes=%d error=%r cure=%r", size, error.strerror, "a smaller --memory"
            )
            return False
        return True

    def _unload(self, flight: Flight) -> None:
        """Take a flight's memory away, and what had landed in it."""
        if flight.block is not None:
            flight.block = None
            self._let_go(flight.key)
            self._ledger.drop(flight.key)

    def _let_go(self, key: BlockKey) -> None:
        """Forget a block; its memory may be used again once nobody sees it."""
        self._buffers.give(self._blocks.pop(key))

    def _land(self, flight: Flight) -> None:
        """Wake the waiters, then let the store have the block."""
        key, block, now_s = flight.key, flight.block, trio.current_time()
        assert block is not None
        del self._flights[key]
        self._pools[flight.tier].queue.finish(key)
        self._ledger.land(key, now_s)
        flight.wake()
        self._meter.add(FETCH_REQUESTS, label=flight.tier)
        self._meter.add(FETCH_BYTES, block.size_bytes, flight.tier)
        self._meter.observe(FETCH_SECONDS, now_s - flight.began_at_s, flight.tier)
        if flight.repairing:
            self._meter.add(BLOCKS_REPAIRED)
        if flight.tier is Tier.NETWORK and key not in self._landed:
            self._landed.add(key)
            self.landed_bytes += block.size_bytes
        if flight.tier is Tier.DISK:
            self._ledger.settle(key, stored=True)
        elif self._writer is not None:
            self._writer.submit(key, block)
        else:
            self._ledger.settle(key, stored=False)
        self.stir()

    def _settled(self, key: BlockKey, outcome: str) -> None:
        """Hear from the writer what became of a block."""
        self._ledger.settle(key, stored=outcome == STORED)
        if outcome != STORED:
            self._meter.add(BLOCKS_DECLINED, label=outcome)
        self.stir()

    # -- trouble -------------------------------------------------------------------------------------

    def _repair(self, flight: Flight, error: BlockCorrupt) -> None:
        """Send a flight whose block the store could not give on to the network."""
        self._meter.add(ERRORS, label=error.kind())
        if not isinstance(error, BlockGone):
            log.warning("block_corrupt error=%r consequence=%r", str(error), "it is fetched again")
            flight.repairing = True
        self._pools[Tier.DISK].queue.finish(flight.key)
        flight.tier = Tier.NETWORK
        self._pools[Tier.NETWORK].queue.adopt(flight.key)
        self._pools[Tier.NETWORK].returning.append(flight)
        self.stir()

    def _trouble(self, flight: Flight, error: Exception) -> None:
        """Try again later, or fail the flight."""
        if not isinstance(error, LazyfsError):
            log.error("internal_error key=%s", flight.key, exc_info=error)
            error = LazyfsError("internal error in lazyfs; the log has its traceback")
        # The frames of a traceback would keep the block's memory for as long as the error lives.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self._meter.add(ERRORS, label=error.kind())
        self.last_error = str(error)
        hint_s = error.retry_after_s if isinstance(error, SourceThrottled) else None
        delay_s = self._limits.backoff.delay_s(flight.attempt, random.random(), hint_s)  # noqa: S311
        if error.retryable and trio.current_time() + delay_s < flight.deadline_at_s:
            flight.attempt += 1
            self._meter.add(RETRIES)
            log.info(
                "fetch_retry blob=%r attempt=%d delay_s=%.2f error=%r", *self._about(flight, delay_s, error)
            )
            # Others may need the memory meanwhile: at once if nothing has landed in it, or when they ask.
            if flight.block is not None and not flight.block.filled_bytes:
                self._unload(flight)
                self.stir()
            else:
                self._resting[flight.key] = flight
            assert self._retries is not None
            self._retries.start_soon(self._again, flight, delay_s)
        else:
            self._fail(flight, error)

    def _about(self, flight: Flight, delay_s: float, error: LazyfsError) -> tuple[str, int, float, str]:
        return self.name_of(flight.key), flight.attempt, delay_s, str(error)

    async def _again(self, flight: Flight, delay_s: float) -> None:
        await trio.sleep(delay_s)
        self._resting.pop(flight.key, None)
        pool = self._pools[flight.tier]
        if flight.block is not None:
            pool.returning.append(flight)
        else:
            pool.queue.finish(flight.key)
            pool.queue.request(flight.key, flight.urgency)
        self.stir()

    def _fail(self, flight: Flight, error: LazyfsError) -> None:
        """End a flight without its block; every waiter gets the error."""
        key = flight.key
        del self._flights[key]
        self._pools[flight.tier].queue.finish(key)
        self._unload(flight)
        flight.error = error
        flight.wake()
        if isinstance(error, BlobChanged) and key.inode not in self._changed:
            self._changed[key.inode] = error
            self._warmer.give_up(key.inode)
            self._meter.add(BLOBS_CHANGED)
        elif not isinstance(error, BlobChanged):
            self._warmer.failed(key)
        log.error(
            "fetch_failed blob=%r block=%d kind=%s error=%r",
            self.name_of(key), key.index, error.kind(), str(error),
        )  # fmt: skip
        self.stir()

    # -- housekeeping --------------------------------------------------------------------------------

    def stir(self) -> None:
        """Let an idle lane look again: a block more may leave memory."""
        for pool in self._pools.values():
            pool.stir()

    async def _trim(self) -> None:
        """Let go of memory nobody uses, so that it falls back after a load."""
        while True:
            await trio.sleep(TICK_S)
            now_s = trio.current_time()
            for key in self._ledger.idle(now_s - STORED_IDLE_S, now_s - ANY_IDLE_S):
                self._ledger.drop(key)
                self._let_go(key)
            if not self._flights:
                self._buffers.trim(0)
            for pool in self._pools.values():
                pool.stir_all()

    def name_of(self, key: BlockKey) -> str:
        """Return the name of the blob a block belongs to."""
        return self._blobs.by_inode[key.inode].name
