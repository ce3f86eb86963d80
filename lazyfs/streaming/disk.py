"""What streaming asks of the store, and how long it waits for an answer.

A disk that hangs keeps the thread that asked it, and the memory that thread was given, for as long as it
likes: so nobody waits for the thread, and the memory is not used for anything else (`Buffers.give`). There
are no more such threads than disk lanes and writers.
"""

from typing import Protocol

from lazyfs.core.blob import BlockKey

READ_PATIENCE_S = 5.0
READ_LEAST_BYTES_PER_S = 4 << 20
"""A read is waited for as long as it takes at this rate, and `READ_PATIENCE_S` more."""
WRITE_PATIENCE_S = 60.0
"""Nobody waits for a write; but it holds up those behind it, and their memory."""


class BlockDisk(Protocol):
    """`cache.store.Store`. What blocks is called in threads."""

    def has(self, key: BlockKey) -> bool:
        """Tell whether a block should be on disk. No I/O."""

    @property
    def readable(self) -> bool:
        """Whether stored blocks should be read now, rather than come from the network."""

    @property
    def writable(self) -> bool:
        """Whether a block handed to `write` would be tried now."""

    def read(self, key: BlockKey, into: memoryview) -> None:
        """Fill `into` with a stored block; BlockCorrupt when that cannot be."""

    def write(self, key: BlockKey, content: memoryview) -> str:
        """Store a block; return what became of it."""

    def read_hung(self, key: BlockKey, seconds: float) -> None:
        """Hear that `read` has not returned for so long, and is not waited for."""

    def write_hung(self, seconds: float) -> None:
        """Hear that `write` has not returned for so long, and is not waited for."""

    def fell_behind(self) -> None:
        """Hear that memory was wanted for other blocks before one could be written."""


def read_patience_s(size_bytes: int) -> float:
    """Return for how long the read of a block is waited for."""
    return READ_PATIENCE_S + size_bytes / READ_LEAST_BYTES_PER_S
