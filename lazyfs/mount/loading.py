"""What brings blocks, put together: a mount, a pull and the filling of the cache share it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lazyfs.config import TransferOptions
from lazyfs.core.blob import BlobRef, BlockKey
from lazyfs.core.concurrency import ENOUGH, Concurrency
from lazyfs.core.ledger import Ledger
from lazyfs.core.location import Location
from lazyfs.mount.memorywatch import MemoryWatch
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.breakers import Breakers
from lazyfs.streaming.disk import BlockDisk
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.flight import Tier
from lazyfs.streaming.gets import Gets
from lazyfs.streaming.lanes import DEMAND_LANES
from lazyfs.streaming.loader import BlockLoader, Limits
from lazyfs.streaming.locator import Locator
from lazyfs.streaming.warmer import Warmer
from lazyfs.streaming.writer import Writer
from lazyfs.telemetry.metrics import FETCH_BYTES, Meter
from lazyfs.transport.whole import Wholes


@dataclass(frozen=True, slots=True)
class Loading:
    """What runs (`loader`, `writer`, `memory`), and what is asked."""

    loader: BlockLoader
    warmer: Warmer
    writer: Writer | None
    ledger: Ledger[BlockKey]
    memory: MemoryWatch
    meter: Meter

    @property
    def fetched_bytes(self) -> int:
        """Bytes that have come from the network, those of unfinished blocks too."""
        return int(self.meter.value(FETCH_BYTES, Tier.NETWORK)) + self.loader.traffic.arriving_bytes

    @property
    def at_rest(self) -> bool:
        """Whether nothing is on its way from anywhere, or to the disk, and warm-up has nothing to fetch."""
        loader = self.loader
        return self.warmer.exhausted and loader.traffic.resting() and not loader.keeper.unsettled


def connections_of(options: TransferOptions) -> int:
    """Return how many requests memory is needed for."""
    return options.connections or ENOUGH


def wire(
    blobs: Blobs,
    locate: Callable[[BlobRef], Location],
    disk: BlockDisk | None,
    warmer: Warmer,
    ledger: Ledger[BlockKey],
    limits: Limits,
    whole_in: Path | None,
) -> Loading:
    """Wire a loader that fetches `blobs`, within a ledger's budget, and keeps them on `disk` if there is one.

    What a server sends whole, whatever is asked for, goes through a file in `whole_in`.
    """
    meter = Meter()
    blocks, breakers = BlockMemory(ledger), Breakers()
    lanes = limits.concurrency.most + DEMAND_LANES
    gets = Gets(blocks, breakers, meter, lanes, wholes=Wholes(whole_in))
    fetcher = Fetcher(blobs, Locator(blobs.by_inode, locate), disk, gets, breakers, meter)
    has = disk.has if disk is not None else has_nothing
    loader = BlockLoader(blobs, fetcher, blocks, warmer, limits, meter, has)
    writer = loader.keeper.keep_with(disk) if disk is not None else None
    watch = MemoryWatch(ledger.capacity_bytes, blobs.grid.block_bytes, loader)
    return Loading(loader, warmer, writer, ledger, watch, meter)


def has_nothing(_key: BlockKey) -> bool:
    """Tell what a disk has that is not there."""
    return False


def limits_of(options: TransferOptions) -> Limits:
    """Return the bounds that the options set."""
    if options.connections is None:
        concurrency = Concurrency(options.block_size)
    else:
        concurrency = Concurrency(options.block_size, options.connections, options.connections)
    return Limits(concurrency, options.read_deadline)
