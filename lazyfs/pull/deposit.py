"""The disk of a pull, as the loader sees it: what is local is read and checked, what lands is written.

*Local* is what an earlier pull has left, and what the node's cache has: reading a block of the cache puts it
into its file, too. So a block that is not right is fetched, like any that the store cannot give.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from lazyfs.cache.reading import StoredBlocks
from lazyfs.core.blob import BlockKey
from lazyfs.errors import BlockUnreadable
from lazyfs.pull.parts import Parts
from lazyfs.streaming.fetcher import Blobs
from lazyfs.streaming.writer import DISK_TROUBLE, STORED

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ears:
    """Who hears what becomes of a block; called in threads."""

    sound: Callable[[BlockKey], None]
    """It is in its file, and right."""
    refused: Callable[[OSError], None]
    """The disk would not take it."""


class Deposit:
    """`streaming.disk.BlockDisk` over unfinished files and the node's cache."""

    readable = writable = True

    def __init__(self, blobs: Blobs, parts: Parts, cache: StoredBlocks, ears: Ears) -> None:
        self._blobs = blobs
        self._parts = parts
        self._cache = cache
        self._ears = ears
        self.from_cache_bytes = 0
        """Bytes of blocks that the cache had."""
        self.found_bytes = 0
        """Bytes of blocks that an earlier pull had left, and that were right."""

    def has(self, key: BlockKey) -> bool:
        """Tell whether a block is local."""
        return self._parts.has(key) or self._cache.has(key)

    def read(self, key: BlockKey, into: memoryview) -> None:
        """Fill `into` with a local block, which is in its file after that.

        Raises:
            BlockCorrupt: when it is not right.

        """
        size_bytes = self._blobs.span(key).size_bytes
        if self._parts.has(key):
            self._parts.read(key, into)
            self.found_bytes += size_bytes
        else:
            self._cache.read(key, into)
            if self._write(key, into[:size_bytes]) != STORED:
                raise BlockUnreadable(f"block {key.index}: the disk would not take it")
            self.from_cache_bytes += size_bytes
        self._ears.sound(key)

    def write(self, key: BlockKey, content: memoryview) -> str:
        """Put a block into its file; return what became of it."""
        outcome = self._write(key, content)
        if outcome == STORED:
            self._ears.sound(key)
        return outcome

    def _write(self, key: BlockKey, content: memoryview) -> str:
        try:
            self._parts.begin(key.inode)
            self._parts.write(key, content)
        except OSError as error:
            self._ears.refused(error)
            return DISK_TROUBLE
        return STORED

    def read_hung(self, key: BlockKey, seconds: float) -> None:
        """Say that a local block has not come; it is fetched."""
        log.warning("pull_disk_hangs blob=%r what=reading seconds=%d", self._name(key), seconds)

    def write_hung(self, seconds: float) -> None:
        """Say that a block could not be written for so long; it is tried again."""
        log.warning("pull_disk_hangs what=writing seconds=%d", seconds)

    def fell_behind(self) -> None:
        """Hear that a block left memory before it was written: it does not happen, nobody demands any."""

    def _name(self, key: BlockKey) -> str:
        return self._blobs.by_inode[key.inode].name
