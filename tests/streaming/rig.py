"""A loader with everything around it but the network: blocks come from a dictionary, when told to.

The store is another dictionary, or with `disk` the real one.
"""

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from lazyfs.cache.store import Store
from lazyfs.core.backoff import Backoff
from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, ByteRange, Grid
from lazyfs.core.concurrency import Concurrency
from lazyfs.core.ledger import Ledger
from lazyfs.core.plan import Planner, Policy
from lazyfs.errors import BlockCorrupt
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.breakers import Breakers
from lazyfs.streaming.fetcher import Blobs
from lazyfs.streaming.flight import Buffers, Flight
from lazyfs.streaming.loader import BlockLoader, Limits
from lazyfs.streaming.reader import BlobReader
from lazyfs.streaming.warmer import Warmer
from lazyfs.telemetry.metrics import Meter

BLOCK = 2 * PAGE_BYTES
GRID = Grid(BLOCK)
Hook = Callable[[Flight], Awaitable[None]]


def refs_of(contents: dict[int, bytes]) -> dict[int, BlobRef]:
    return {inode: BlobRef(f"{inode}.safetensors", f"o{inode}", "v", len(c)) for inode, c in contents.items()}


async def at_once(_flight: Flight) -> None:
    await trio.lowlevel.checkpoint()


class FakeFetcher:
    """Fills blocks from `contents`. A hook runs before and may wait, raise, or fill a part."""

    def __init__(self, contents: dict[int, bytes], disk: Store | None = None) -> None:
        self._contents = contents
        self._disk = disk
        self.network: Hook = at_once
        self.disk: Hook = at_once
        self.breakers = Breakers()
        self.stored: dict[BlockKey, bytes] = {}
        self.fetched: Counter[BlockKey] = Counter()
        self.order: list[BlockKey] = []
        self.flying = self.flying_max = 0
        self.heads_cost_all = False
        self.heard_at_s = -math.inf

    def silent_s(self) -> float:
        return trio.current_time() - self.heard_at_s

    def quiet_s(self, _flight: Flight) -> float:
        return 0.0

    async def run(self) -> None:
        await trio.sleep_forever()

    async def from_network(self, flight: Flight) -> None:
        self.fetched[flight.key] += 1
        self.order.append(flight.key)
        self.flying += 1
        self.flying_max = max(self.flying, self.flying_max)
        try:
            await self.network(flight)
        finally:
            self.flying -= 1
        self.fill(flight, flight.block.size_bytes)

    def fill(self, flight: Flight, stop: int) -> None:
        start = max(flight.key.index, 0) * BLOCK
        flight.block.pages[:stop] = self._contents[flight.key.inode][start : start + stop]
        flight.block.filled_bytes = stop
        self.heard_at_s = trio.current_time()
        flight.wake()

    async def from_disk(self, flight: Flight, _limiter: object) -> None:
        await self.disk(flight)
        if self._disk is not None:
            self._disk.read(flight.key, flight.block.pages)
            flight.block.filled_bytes = flight.block.size_bytes
            return
        if flight.key not in self.stored:
            raise BlockCorrupt("not there")
        content = self.stored[flight.key]
        flight.block.pages[: len(content)] = content
        flight.block.filled_bytes = len(content)


class Rig:
    """Everything a test touches."""

    def __init__(
        self,
        contents: dict[int, bytes],
        *,
        policy: Policy = Policy.DEMAND,
        memory_blocks: int = 1000,
        connections: int = 4,
        deadline_s: float = 60.0,
        store: bool = False,
        head_bytes: int = 0,
        disk: Store | None = None,
    ) -> None:
        refs = refs_of(contents)
        self.contents = contents
        self.meter = Meter()
        self.disk = disk
        self.ledger: Ledger[BlockKey] = Ledger(memory_blocks * BLOCK)
        self.planner = Planner(refs, GRID, policy, head_bytes=head_bytes)
        self.warmer = Warmer(self.planner, self.has)
        concurrency = Concurrency(BLOCK, connections, connections)
        limits = Limits(concurrency, deadline_s, Backoff(base_s=0.1, cap_s=5.0))
        blobs = Blobs(refs, GRID, head_bytes)
        # Small blocks are reused like large ones.
        self.memory = BlockMemory(self.ledger, Buffers(reuse_from_bytes=PAGE_BYTES))
        self.fetcher = self.make_fetcher(blobs)
        self.loader = BlockLoader(
            blobs,
            self.fetcher,
            self.memory,
            self.warmer,
            limits,
            self.meter,
            self.has,  # type: ignore[arg-type]
        )
        self.reader = BlobReader(self.loader, self.planner, GRID, self.meter)
        self.outcome = "stored"
        self.readable = self.writable = True
        self.hung: list[BlockKey] = []
        self.hung_writes = self.fell_behind_count = 0
        self.writer = self.loader.keeper.keep_with(disk or self) if store or disk else None

    def make_fetcher(self, _blobs: Blobs) -> Any:
        return FakeFetcher(self.contents, self.disk)

    def has(self, key: BlockKey) -> bool:
        return self.disk.has(key) if self.disk else key in self.fetcher.stored

    def write_hung(self, _seconds: float) -> None:
        self.hung_writes += 1
        self.writable = False

    def fell_behind(self) -> None:
        self.fell_behind_count += 1

    def write(self, key: BlockKey, content: memoryview) -> str:
        if self.outcome == "stored":
            self.fetcher.stored[key] = bytes(content)
        return self.outcome

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.loader.run)
            if self.writer is not None:
                nursery.start_soon(self.writer.run)
            yield nursery
            nursery.cancel_scope.cancel()

    async def read(self, inode: int, index: int, stop: int | None = None) -> bytes:
        key = BlockKey(inode, index)
        stop = stop or min(BLOCK, len(self.contents[inode]) - index * BLOCK)
        with self.loader.waits.begin(inode, ByteRange(index * BLOCK, index * BLOCK + stop)) as wait:
            block = await self.loader.load(key, stop, wait)
        return bytes(block.cut(0, stop))

    def expected(self, inode: int, index: int) -> bytes:
        return self.contents[inode][index * BLOCK : (index + 1) * BLOCK]


async def until(condition):
    """Wait for what threads do; not by a mock clock."""
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.005)
