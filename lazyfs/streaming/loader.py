"""Blocks: in memory, or in flight once for everybody who wants them.

Demand, read-ahead and warm-up meet here. The states are in a pure `FetchQueue` per tier and a pure `Ledger`;
this shell moves flights between them. Everything between two awaits is atomic; there are no locks.
"""

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from lazyfs.core.backoff import Backoff
from lazyfs.core.blob import HEAD, BlockKey
from lazyfs.core.concurrency import Concurrency
from lazyfs.core.fetchqueue import Urgency
from lazyfs.errors import (
    BlobChanged,
    BlobTorn,
    BlockCorrupt,
    BlockGone,
    BlockUnreadable,
    LazyfsError,
    SourceThrottled,
)
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.flight import Block, Flight, Tier
from lazyfs.streaming.keeper import Keeper
from lazyfs.streaming.lanes import Desk, Lanes
from lazyfs.streaming.pool import Pool
from lazyfs.streaming.retries import Retries
from lazyfs.streaming.tower import Tower
from lazyfs.streaming.traffic import Traffic
from lazyfs.streaming.waits import Wait, Waits
from lazyfs.streaming.warmer import Warmer
from lazyfs.telemetry.metrics import (
    BLOBS_CHANGED,
    ERRORS,
    FETCH_BYTES,
    FETCH_REQUESTS,
    FETCH_SECONDS,
    RETRIES,
    Meter,
)

log = logging.getLogger(__name__)

STORED_IDLE_S = 3.0
"""An untouched block that can be read back from disk leaves memory after this long."""
ANY_IDLE_S = 60.0
"""One that cannot leaves after this long."""
PATIENCE_S = 1.0
"""How long a read behind a header waits like one that nobody waits for (`BlockLoader.demand`)."""
HEAD_PATIENCE_S = 1.0
"""How long a first block waits for a head that is under way, rather than fetch the same bytes again."""
TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds: connections of speculation, seconds that trouble is retried, and how retries are spaced."""

    concurrency: Concurrency
    read_deadline_s: float
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class LoaderStatistics:
    """What a loader has under way, and what it remembers."""

    flights: Mapping[BlockKey, Flight]
    resting: int
    """Flights that failed and wait to be tried again."""
    changed: Mapping[int, BlobChanged]
    """The blobs that are known to have changed, by inode, with the error that readers get."""


class BlockLoader:
    """See the module's docstring. `run` must run; everything else is synchronous but `load`."""

    def __init__(
        self,
        blobs: Blobs,
        fetcher: Fetcher,
        memory: BlockMemory,
        warmer: Warmer,
        limits: Limits,
        meter: Meter,
        has: Callable[[BlockKey], bool],
    ) -> None:
        self._blobs = blobs
        self._fetcher = fetcher
        self._memory = memory
        self._warmer = warmer
        self._limits = limits
        self._meter = meter
        self._has = has
        self._pools = {Tier.DISK: Pool(), Tier.NETWORK: Pool()}
        self._flights: dict[BlockKey, Flight] = {}
        self._tower = Tower(limits.concurrency, blobs.grid.block_bytes, self._pools[Tier.NETWORK].stir_all)
        self.waits = Waits(limits.read_deadline_s, fetcher)
        self.traffic = Traffic(self._flights, self._pools, limits.concurrency, self.waits)
        self.breakers = fetcher.breakers
        self.breakers.up = self._host_is_up
        self._retries = Retries(limits.backoff, self.breakers, self._try_again, self._fail)
        self._changed: dict[int, BlobChanged] = {}
        self._torn: set[int] = set()
        """Of which blobs nothing is given out any more, wherever it is: it may be of two versions."""
        self.last_error = ""
        self.gave_up: Callable[[BlockKey, LazyfsError], None] = _nobody
        """Told of every flight that ends without its block."""
        self.keeper = Keeper(blobs, memory, warmer, meter, has, self.stir)

    def statistics(self) -> LoaderStatistics:
        """Return what is under way now."""
        return LoaderStatistics(dict(self._flights), self._retries.resting_count, dict(self._changed))

    # -- for readers ---------------------------------------------------------------------------------

    def peek(self, key: BlockKey, stop: int) -> Block | None:
        """Return the block if its bytes before `stop` are in memory."""
        return None if key.inode in self._torn else self._memory.peek(key, stop)

    def demand(self, key: BlockKey, stop: int, *, patient: bool = True) -> tuple[Flight, bool]:
        """Have a block that is not in memory fetched first, its bytes before `stop` at least.

        Returns its flight, or that of its blob's head if it is under way and enough; and whether it is new.
        When somebody maps a file and looks at its header, the kernel asks for much that lies behind it, and
        nobody waits for that: behind a head the first block gets warm-up's urgency, of a `patient` reader.

        Raises:
            BlobChanged: when the blob is known to have changed, and the store has not got this block of it.
            BlobTorn: when what is here of it may be of two versions, wherever the block is.

        """
        flight, urgency = self._flights.get(key), Urgency.DEMAND
        new = flight is None
        if key.index == 0:
            head = BlockKey(key.inode, HEAD)
            waits = flight is None or flight.block is None
            if waits and head in self._flights and stop <= self._blobs.span(head).size_bytes:
                return self._wanted(head, Urgency.DEMAND), False
            behind = head in self._flights or head in self._memory or (flight and flight.adopted_bytes)
            urgency = Urgency.WARMUP if patient and behind else Urgency.DEMAND
        if new and key.inode in self._changed and not self._stored(key):
            raise copy.copy(self._changed[key.inode])
        return self._wanted(key, urgency), new and urgency is Urgency.DEMAND

    def _wanted(self, key: BlockKey, urgency: Urgency) -> Flight:
        """Return the flight a reader will wait for: it lives as long as any of its readers may wait."""
        flight = self._request(key, urgency)
        flight.deadline_at_s = trio.current_time() + self._limits.read_deadline_s
        self._retries.hasten(flight)
        return flight

    def _stored(self, key: BlockKey) -> bool:
        return key.index != HEAD and key.inode not in self._torn and self._has(key)

    async def load(self, key: BlockKey, stop: int, wait: Wait) -> Block:
        """Return the block once its bytes before `stop` are in memory, to the reader whose wait that is.

        Raises:
            LazyfsError: when it could not be had, or not before the reader's deadline.

        """
        # It may have left memory between its landing and our turn: after every await, look again.
        patient = True
        while (block := self.peek(key, stop)) is None:
            flight, _ = self.demand(key, stop, patient=patient)
            urgent = flight.urgency is Urgency.DEMAND
            with trio.move_on_after(math.inf if urgent else PATIENCE_S) as waiting:
                await self.waits.reach(wait, flight, stop)
            patient = not waiting.cancelled_caught
        return block

    def discard(self, key: BlockKey) -> None:
        """Say that nobody will want a block again that has landed: it leaves memory."""
        if key in self._memory and key not in self._flights:
            self._memory.drop(key)
            self.stir()

    def served(self, key: BlockKey, count_bytes: int) -> None:
        """Say that a reader was given so many of the block's bytes."""
        self.traffic.served_at_s = trio.current_time()
        if self._memory.served(key, count_bytes):
            self.stir()

    def hint(self, keys: Iterable[BlockKey], urgency: Urgency) -> None:
        """Have blocks fetched that may be wanted; never waits, never raises."""
        for key in keys:
            if key not in self._memory and (key.inode not in self._changed or self._stored(key)):
                self._request(key, urgency)

    # -- flights -------------------------------------------------------------------------------------

    def _request(self, key: BlockKey, urgency: Urgency) -> Flight:
        now_s = trio.current_time()
        deadline_at_s = now_s + self._limits.read_deadline_s
        flight = self._flights.get(key)
        if flight is None:
            tier = Tier.DISK if self._stored(key) else Tier.NETWORK
            flight = self._flights[key] = Flight(key, urgency, tier, now_s, deadline_at_s)
        flight.urgency = min(flight.urgency, urgency)
        self._warmer.mark(key)
        pool = self._pools[flight.tier]
        if pool.queue.request(key, urgency):
            pool.stir()
        return flight

    async def run(self) -> None:
        """Fly until cancelled."""
        self.hint(self._warmer.first(), Urgency.READAHEAD)
        lanes = Lanes(
            self._fetcher,
            self._tower,
            Desk(self._board, self._prepare, self._land, self._repair, self._trouble, self._hold),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self._retries.run)
            nursery.start_soon(self._fetcher.run)
            nursery.start_soon(lanes.run)
            nursery.start_soon(self._tower.run)
            nursery.start_soon(self._trim)

    async def _prepare(self, flight: Flight) -> None:
        """Get a flight ready that a lane has taken: what it may wait in trouble is counted from the first."""
        if not flight.boarded:
            flight.boarded = True
            patience_s = self._limits.read_deadline_s
            flight.deadline_at_s = max(flight.deadline_at_s, trio.current_time() + patience_s)
        await self._adopt_head(flight)

    async def _adopt_head(self, flight: Flight) -> None:
        """Have a first block begin with what its blob's head holds, or is about to."""
        if flight.key.index != 0:
            return
        head = self._flights.get(BlockKey(flight.key.inode, HEAD))
        if head is not None and head.block is not None:
            with trio.move_on_after(HEAD_PATIENCE_S), contextlib.suppress(LazyfsError):
                await head.reach(head.block.size_bytes)
        flight.adopted_bytes = self._memory.adopt_head(flight.key.inode) or flight.adopted_bytes

    async def _board(self, tier: Tier, least: Urgency) -> Flight:
        """Wait for a flight of at least this urgency that memory has room for; take it."""
        pool = self._pools[tier]
        while True:
            returned = pool.returned(least)
            if returned is not None:
                return returned
            full = tier is Tier.NETWORK and (self._tower.full or not self.breakers.speculate)
            allowed = Urgency.DEMAND if full else least
            found = pool.queue.head(allowed)
            feed = allowed is Urgency.WARMUP and tier is Tier.NETWORK and not self._retries.holding
            if found is None and feed:
                warm = self._warmer.next()
                if warm is not None:
                    self.hint((warm,), Urgency.WARMUP)
                    continue
            if found is not None and self._needless(found[0]):
                pool.queue.take(allowed)
                pool.queue.finish(found[0])
                del self._flights[found[0]]
                continue
            if found is not None and self._admit(*found):
                pool.queue.take(allowed)
                return self._flights[found[0]]
            if found is not None and found[1] is not Urgency.DEMAND and self._flights[found[0]].waiting:
                # There is no room for speculation now; but this one somebody waits for.
                pool.queue.request(found[0], Urgency.DEMAND)
                continue
            await pool.rest(least)

    def _needless(self, key: BlockKey) -> bool:
        """Tell whether it is a head that its first block has overtaken, or that would cost the whole blob."""
        overtaken = BlockKey(key.inode, 0) in self._memory or self._fetcher.heads_cost_all
        return key.index == HEAD and overtaken and not self._flights[key].waiting

    def _admit(self, key: BlockKey, urgency: Urgency) -> bool:
        """Give the flight its memory, if there is room."""
        flight, size = self._flights[key], self._blobs.span(key).size_bytes
        victims = self._memory.admit(key, size, urgency)
        while victims is None and urgency is Urgency.DEMAND and self._make_room():
            victims = self._memory.admit(key, size, urgency)
        if victims is None:
            return False
        self.keeper.decline(victims)
        flight.block = self._memory.take(key, size)
        return flight.block is not None

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that blocks take now."""
        return self._memory.held_bytes

    def resize(self, capacity_bytes: int) -> None:
        """Change the memory budget."""
        self.keeper.decline(self._memory.resize(capacity_bytes))
        self.stir()

    def _make_room(self) -> bool:
        """Take memory from a flight that waits to be tried again, or from a head: demand must get on."""
        resting = self._retries.take_one()
        if resting is not None:
            self._unload(resting)
            return True
        return self._memory.drop_a_head()

    def _unload(self, flight: Flight) -> None:
        """Take a flight's memory away, and what had landed in it."""
        if flight.block is not None:
            flight.emptied()
            self._memory.drop(flight.key)

    def _land(self, flight: Flight) -> None:
        """Wake the waiters, then let the store have the block."""
        key, block, now_s = flight.key, flight.block, trio.current_time()
        assert block is not None
        del self._flights[key]
        self._pools[flight.tier].queue.finish(key)
        flight.wake()
        self._meter.add(FETCH_REQUESTS, label=flight.tier)
        self._meter.add(FETCH_BYTES, block.size_bytes - flight.adopted_bytes, flight.tier)
        self._meter.observe(FETCH_SECONDS, now_s - flight.began_at_s, flight.tier)
        if key.index != HEAD:
            self._memory.landed(key)
            self.keeper.landed(flight, block)
            if key.index == 0 and BlockKey(key.inode, HEAD) not in self._flights:
                self._memory.drop(BlockKey(key.inode, HEAD))
        elif self._has(BlockKey(key.inode, 0)):
            self._memory.drop(key)
        else:
            self._memory.keep_head(key)
        self.stir()

    # -- trouble -------------------------------------------------------------------------------------

    def _repair(self, flight: Flight, error: BlockCorrupt) -> None:
        """Send a flight whose block the store could not give on to the network."""
        if not isinstance(error, BlockUnreadable):
            self._meter.add(ERRORS, label=error.kind())
        if not isinstance(error, BlockGone | BlockUnreadable):
            log.warning("block_corrupt error=%r consequence=%r", str(error), "it is fetched again")
            flight.repairing = True
        self._pools[Tier.DISK].queue.finish(flight.key)
        flight.tier, pool = Tier.NETWORK, self._pools[Tier.NETWORK]
        flight.network_since_s = trio.current_time()
        flight.deadline_at_s = flight.network_since_s + self._limits.read_deadline_s
        if flight.tainted:
            flight.tainted = False
            self._unload(flight)
            pool.queue.request(flight.key, flight.urgency)
        else:
            pool.queue.adopt(flight.key)
            pool.returning.append(flight)
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
        flight.failed(error)
        if isinstance(error, SourceThrottled):
            self._heed(error, flight)
        delay_s = self._retries.delay_s(flight, error)
        if delay_s is None:
            self._fail(flight, error)
            return
        flight.attempt += 1
        self._meter.add(RETRIES)
        log.info(
            "fetch_retry blob=%r attempt=%d delay_s=%.2f error=%r",
            self.name_of(flight.key), flight.attempt, delay_s, str(error),
        )  # fmt: skip
        self._rest(flight, delay_s)

    def _heed(self, error: SourceThrottled, flight: Flight) -> None:
        """Ask for less: of the storage, or of whoever says where things are (then there is no host yet)."""
        if flight.host:
            self._tower.throttled()
        else:
            self._warmer.rest(error.retry_after_s or 0.0)

    def _hold(self, flight: Flight) -> None:
        """Have a flight rest whose host is down."""
        self._rest(flight, 0.0)

    def _rest(self, flight: Flight, delay_s: float) -> None:
        # Others may need the memory meanwhile: at once if nothing has landed in it, or when they ask.
        if flight.block is not None and not flight.block.filled_bytes:
            self._unload(flight)
            self.stir()
        self._retries.later(flight, delay_s)

    def _host_is_up(self, host: str) -> None:
        """Let everybody go on at once."""
        self._retries.up(host)
        self._pools[Tier.NETWORK].stir_all()

    def _try_again(self, flight: Flight) -> None:
        """Have a flight that has rested fly again."""
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
        if isinstance(error, BlobTorn):
            self._torn.add(key.inode)
        if isinstance(error, BlobChanged) and key.inode not in self._changed:
            self._changed[key.inode] = error
            self._warmer.give_up(key.inode)
            self._meter.add(BLOBS_CHANGED)
        elif not isinstance(error, BlobChanged):
            self._warmer.failed(key)
        log.error(
            "fetch_failed blob=%r block=%s kind=%s error=%r",
            self.name_of(key), key.place, error.kind(), str(error),
        )  # fmt: skip
        self.gave_up(key, error)
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
            self.keeper.again(all_of_them=False)
            self._memory.drop_idle(now_s - STORED_IDLE_S, now_s - ANY_IDLE_S)
            if not self._flights:
                self._memory.trim()
            for pool in self._pools.values():
                pool.stir_all()

    def name_of(self, key: BlockKey) -> str:
        """Return the name of the blob a block belongs to."""
        return self._blobs.by_inode[key.inode].name


def _nobody(_key: BlockKey, _error: LazyfsError) -> None:
    """Hear it."""
