"""The blocks that are in memory or being filled, and the memory they are in.

The ledger decides who may stay; here are the buffers it decides about. A blob's *head* is a small block of
its own (`core.blob.HEAD`): it stays until the first block takes over what it holds.
"""

import logging
import mmap
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from lazyfs.core.blob import HEAD, BlockKey
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.ledger import Ledger
from lazyfs.streaming.flight import Block, Buffers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockMemoryStatistics:
    """What is in memory."""

    blocks: Mapping[BlockKey, Block]
    free: tuple[mmap.mmap, ...]
    """Mappings that wait to be used again."""


class BlockMemory:
    """Blocks by key, within the ledger's budget."""

    def __init__(self, ledger: Ledger[BlockKey], buffers: Buffers | None = None) -> None:
        self.ledger = ledger
        self._buffers = buffers or Buffers()
        self._blocks: dict[BlockKey, Block] = {}
        self._head_served: dict[int, int] = {}
        """Bytes of first blocks, by inode, that readers got before the blocks were there."""

    def statistics(self) -> BlockMemoryStatistics:
        """Return what is in memory now."""
        return BlockMemoryStatistics(dict(self._blocks), self._buffers.free)

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._blocks

    def peek(self, key: BlockKey, stop: int) -> Block | None:
        """Return the block, or the head of its blob, that has the block's bytes before `stop`."""
        block = self._blocks.get(key)
        if block is not None and block.filled_bytes >= stop:
            return block
        if key.index == 0:
            head = self._blocks.get(BlockKey(key.inode, HEAD))
            if head is not None and head.filled_bytes >= stop:
                return head
        return None

    def admit(self, key: BlockKey, size_bytes: int, urgency: Urgency) -> tuple[BlockKey, ...] | None:
        """Make room for a block; return those that had to leave, or None when there is no room now."""
        victims = self.ledger.admit(key, size_bytes, urgency, trio.current_time())
        for victim in victims or ():
            self._let_go(victim)
        return victims

    def resize(self, capacity_bytes: int) -> tuple[BlockKey, ...]:
        """Change the budget; return the blocks that had to leave."""
        victims = self.ledger.resize(capacity_bytes, trio.current_time())
        for victim in victims:
            self._let_go(victim)
        self._buffers.trim(max(0, capacity_bytes - self.ledger.used_bytes))
        return victims

    @property
    def held_bytes(self) -> int:
        """Bytes of blocks, and of buffers that wait to be used again."""
        return self.ledger.used_bytes + self._buffers.free_bytes

    def take(self, key: BlockKey, size_bytes: int) -> Block | None:
        """Return memory for a block that was admitted; None, and admitted no more, if the system has none."""
        # What waits to be used again lives inside the budget too.
        self._buffers.trim(self.ledger.capacity_bytes - self.ledger.used_bytes + size_bytes)
        try:
            block = self._blocks[key] = self._buffers.take(size_bytes)
        except OSError as error:
            self.ledger.drop(key)
            log.warning(
                "memory_refused bytes=%d error=%r cure=%r", size_bytes, error.strerror, "a smaller --memory"
            )
            return None
        return block

    def spare(self, size_bytes: int) -> Block | None:
        """Return memory for a second request of a block, beyond the budget; None if the system has none."""
        try:
            return self._buffers.take(size_bytes)
        except OSError:
            return None

    def replace(self, key: BlockKey, block: Block) -> None:
        """Have another memory stand for a block, which holds all that the one before does."""
        self._buffers.give(self._blocks[key])
        self._blocks[key] = block

    def adopt_head(self, inode: int) -> int:
        """Move what a blob's head holds into the empty first block; return how many bytes that was."""
        key = BlockKey(inode, HEAD)
        head, block = self._blocks.get(key), self._blocks[BlockKey(inode, 0)]
        if block.filled_bytes or head is None or head.filled_bytes < head.size_bytes:
            return 0
        block.pages[: head.size_bytes] = head.pages[: head.size_bytes]
        block.filled_bytes = head.size_bytes
        self.drop(key)
        return head.size_bytes

    def keep_head(self, key: BlockKey) -> None:
        """Keep a head that has landed until its blob's first block takes it over; it may be there already.

        For the ledger it stays in flight: whatever comes, it does not leave before it was of use.
        """
        first, head = self._blocks.get(BlockKey(key.inode, 0)), self._blocks.get(key)
        if first is not None and head is not None and first.filled_bytes >= head.size_bytes:
            self.drop(key)

    def served(self, key: BlockKey, count_bytes: int) -> bool:
        """Say that a reader got so many of a block's bytes; return whether all of it has been read now."""
        if key.index == 0 and key not in self._blocks:
            self._head_served[key.inode] = self._head_served.get(key.inode, 0) + count_bytes
        return self.ledger.touch(key, count_bytes, trio.current_time())

    def landed(self, key: BlockKey) -> None:
        """Say that all of a block is here, and so its blob's head has had its use."""
        self.ledger.land(key, trio.current_time())
        early_bytes = self._head_served.pop(key.inode, 0) if key.index == 0 else 0
        if early_bytes:
            self.ledger.touch(key, early_bytes, trio.current_time())

    def drop(self, key: BlockKey) -> None:
        """Take a block out of memory, wherever it is in its life, if it is there."""
        if key in self._blocks:
            self._let_go(key)
            self.ledger.drop(key)

    def _let_go(self, key: BlockKey) -> None:
        """Forget a block; its memory may be used again once nobody sees it."""
        self._buffers.give(self._blocks.pop(key))

    def drop_a_head(self) -> bool:
        """Let go of a head that has landed; return whether there was one."""
        for key, head in self._blocks.items():
            if key.index == HEAD and head.filled_bytes == head.size_bytes:
                self.drop(key)
                return True
        return False

    def drop_idle(self, stored_before_s: float, any_before_s: float) -> None:
        """Let go of what nobody uses (`Ledger.idle`)."""
        for key in self.ledger.idle(stored_before_s, any_before_s):
            self.drop(key)

    def trim(self) -> None:
        """Give back what waits to be used again."""
        self._buffers.trim(0)
