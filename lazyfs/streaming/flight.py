"""A block's memory, and the flight that fills it."""

import copy
import mmap
import time
from enum import StrEnum

import trio

from lazyfs.core.blob import BlockKey, page_aligned
from lazyfs.core.fetchqueue import Urgency
from lazyfs.errors import LazyfsError

HUGE_PAGE_BYTES = 2 << 20
REUSE_FROM_BYTES = 256 << 10
"""Smaller mappings are cheap to make, and come in too many sizes to be worth keeping."""


class Tier(StrEnum):
    """Where the bytes of a read were."""

    MEMORY = "memory"
    DISK = "disk"
    NETWORK = "network"


class Block:
    """One block's bytes in an anonymous mapping of its own, in whole pages for direct I/O."""

    __slots__ = ("buffer", "filled_bytes", "pages", "size_bytes")

    def __init__(self, size_bytes: int, buffer: mmap.mmap) -> None:
        self.buffer = buffer
        self.pages = memoryview(buffer)
        self.size_bytes = size_bytes
        self.filled_bytes = 0
        """So much of the front is there, and right; it never shrinks."""

    def cut(self, start: int, stop: int) -> memoryview:
        """Return a view of bytes that are there."""
        if stop > self.filled_bytes:
            raise RuntimeError("bytes that have not landed")
        return self.pages[start:stop]


class Buffers:
    """Mappings for blocks, used again when nobody can see them any more.

    A buffer reused under a view that is still being sent, or written to disk, would be silent corruption. So
    the proof is Python's own: a mapping with an exported view refuses to be resized, even to the size it has.
    With a view left, the mapping is not reused; it goes when the last view goes.

    Fresh pages must be zeroed by the kernel, and on a virtual machine often be given by the host first, which
    was measured at 0.5 to 1.5 GB/s: slower than the network. Huge pages halve the CPU time of filling.
    """

    def __init__(self, reuse_from_bytes: int = REUSE_FROM_BYTES) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        self._reuse_from_bytes = reuse_from_bytes

    def take(self, size_bytes: int) -> Block:
        """Return an empty block."""
        size = page_aligned(size_bytes)
        free = self._free.get(size)
        if free:
            return Block(size_bytes, free.pop())
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= HUGE_PAGE_BYTES:
            buffer.madvise(mmap.MADV_HUGEPAGE)
        return Block(size_bytes, buffer)

    def give(self, block: Block) -> None:
        """Take back the memory of a block that has left; only large ones are worth keeping."""
        block.pages.release()
        # Readers that wait may still know its flight: that must not keep the memory of a block that has left.
        buffer = block.buffer
        del block.buffer
        if len(buffer) < self._reuse_from_bytes:
            return
        try:
            buffer.resize(len(buffer))
        except BufferError:
            return
        self._free.setdefault(len(buffer), []).append(buffer)

    @property
    def free(self) -> tuple[mmap.mmap, ...]:
        """The mappings that wait to be used again."""
        return tuple(buffer for buffers in self._free.values() for buffer in buffers)

    @property
    def free_bytes(self) -> int:
        """Bytes of the mappings that wait to be used again."""
        return sum(size * len(free) for size, free in self._free.items())

    def trim(self, keep_bytes: int) -> None:
        """Let go of what waits beyond `keep_bytes`."""
        for free in self._free.values():
            while free and self.free_bytes > keep_bytes:
                free.pop()


class Flight:
    """A block on its way: queued, fetched, then landed or failed. The loader's, not a reader's."""

    def __init__(self, key: BlockKey, urgency: Urgency, tier: Tier, now_s: float, deadline_s: float) -> None:
        self.key = key
        self.urgency = urgency
        self.tier = tier
        self.began_at_s = now_s
        self.deadline_at_s = deadline_s
        self.network_since_s = now_s
        """When it became the network's, for a block that the disk was to give."""
        self.boarded = False
        """Whether a lane has taken it."""
        self.attempt = 0
        self.relocated = False
        self.host = ""
        """Whom it asked last; nobody, for a file."""
        self.of_a_file = False
        """Whether it reads a file: one that hangs is its kernel's to give up."""
        self.last_error: LazyfsError | None = None
        """How its last attempt ended that failed."""
        self._failed_bytes = 0
        self.repairing = False
        self.tainted = False
        """Whether a thread that nobody waits for any more may still write into the block."""
        self.block: Block | None = None
        self.error: LazyfsError | None = None
        self.adopted_bytes = 0
        """So much of the front was taken over from the blob's head."""
        self.waiting = 0
        """How many readers wait. Lane threads look at it; only the trio thread changes it."""
        self.waiting_since_s: float | None = None
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def filled_bytes(self) -> int:
        """How much of the block's front is there."""
        return self.block.filled_bytes if self.block is not None else 0

    @property
    def failing(self) -> LazyfsError | None:
        """How its last attempt ended, if nothing has come since."""
        return self.last_error if self.filled_bytes <= self._failed_bytes else None

    def failed(self, error: LazyfsError) -> None:
        """Say how an attempt ended; what has landed stays."""
        self.last_error, self._failed_bytes = error, self.filled_bytes

    def emptied(self) -> None:
        """Say that its memory was taken away, and what had landed in it."""
        self.block, self.adopted_bytes, self._failed_bytes = None, 0, 0

    def _reached(self, stop: int) -> bool:
        return self.block is not None and self.block.filled_bytes >= stop

    async def reach(self, stop: int) -> None:
        """Wait until the block's bytes before `stop` are there.

        No wake-up is lost: a waiter announces itself and then looks, a lane thread fills and then looks for
        waiters, and the interpreter lock orders the four.

        Raises:
            LazyfsError: when the flight failed before it got there.

        """
        self.waiting += 1
        if self.waiting_since_s is None:
            # Not trio's clock: the HTTP thread must be able to tell how long that is ago.
            self.waiting_since_s = time.monotonic()
        try:
            while self.error is None and not self._reached(stop):
                await self._lot.park()
        finally:
            self.waiting -= 1
            if not self.waiting:
                self.waiting_since_s = None
        if not self._reached(stop):
            assert self.error is not None
            # A copy each: raising one object in several tasks would mix their tracebacks.
            raise copy.copy(self.error)

    def wake(self) -> None:
        """Let every waiter look again."""
        self._lot.unpark_all()
