"""What becomes of blocks that have landed: the disk takes them, or memory has them for as long as it can."""

from collections.abc import Callable, Iterable

from lazyfs.core.blob import BlockKey
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.disk import BlockDisk
from lazyfs.streaming.fetcher import Blobs
from lazyfs.streaming.flight import Block, Flight, Tier
from lazyfs.streaming.warmer import Warmer
from lazyfs.streaming.writer import REPAIRED, STORED, Writer
from lazyfs.telemetry.metrics import BLOCKS_DECLINED, BLOCKS_REPAIRED, Meter


class Keeper:
    """Gives landed blocks to the writer, if there is one, and tells memory which of them can leave it."""

    def __init__(
        self,
        blobs: Blobs,
        memory: BlockMemory,
        warmer: Warmer,
        meter: Meter,
        has: Callable[[BlockKey], bool],
        stir: Callable[[], None],
    ) -> None:
        """`has` says whether the disk has a block; `stir` is told whenever one more may leave memory."""
        self._blobs = blobs
        self._memory, self._ledger = memory, memory.ledger
        self._warmer = warmer
        self._meter = meter
        self._has = has
        self._stir = stir
        self._writer: Writer | None = None
        self._landed: set[BlockKey] = set()
        self.landed_bytes = 0
        """Bytes of distinct blocks that came from the network."""
        self.kept: Callable[[BlockKey], None] = _unheard
        """Told of every block that the disk has taken."""

    def keep_with(self, disk: BlockDisk) -> Writer:
        """Store what lands on `disk`; the returned writer must run."""
        self._writer = Writer(disk, self._settled)
        return self._writer

    @property
    def unsettled(self) -> int:
        """How many landed blocks are still to be written."""
        return self._writer.unsettled if self._writer is not None else 0

    def landed(self, flight: Flight, block: Block) -> None:
        """Have a block that has landed stored, unless it came from there."""
        key = flight.key
        if flight.repairing:
            self._meter.add(BLOCKS_REPAIRED)
        if flight.tier is Tier.NETWORK and key not in self._landed:
            self._landed.add(key)
            self.landed_bytes += block.size_bytes
        if flight.tier is Tier.DISK or self._has(key):  # it may be there and have been unreadable
            self._ledger.settle(key, stored=True)
        elif self._writer is not None:
            self._writer.submit(key, block)
        else:
            self._ledger.settle(key, stored=False)

    def decline(self, victims: Iterable[BlockKey]) -> None:
        """Give up storing blocks that have left memory before they were written."""
        for victim in victims:
            if self._writer is not None and self._writer.cancel(victim):
                self._meter.add(BLOCKS_DECLINED, label="memory")
                self._warmer.unmark(victim)

    def again(self, *, all_of_them: bool) -> None:
        """Have blocks stored that the disk would not take: from memory, or warm-up comes back to them."""
        if self._writer is None:
            return
        for key in self._writer.again(all_of_them=all_of_them):
            block = self._memory.peek(key, self._blobs.span(key).size_bytes)
            if block is not None:
                self._writer.submit(key, block)
            else:
                self._warmer.unmark(key)

    def _settled(self, key: BlockKey, outcome: str) -> None:
        """Hear from the writer what became of a block."""
        stored = outcome in {STORED, REPAIRED}
        self._ledger.settle(key, stored=stored)
        if stored:
            self._meter.add(BLOCKS_REPAIRED, outcome == REPAIRED)
            self.again(all_of_them=True)
            self.kept(key)
        else:
            self._meter.add(BLOCKS_DECLINED, label=outcome)
        self._stir()


def _unheard(_key: BlockKey) -> None:
    """Hear it."""
