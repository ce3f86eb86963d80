"""The `blocks` file of a stored blob: a header, then one checksum per block.

The checksum is the commit record: a block is in the store exactly when its entry is not the one that says
*absent* and the data's xxh3-64 equals it. So a table needs no log and no fsync: whatever a crash leaves is
either right or found out.

Layout, little-endian, 64 bytes of header::

    0   8  magic "LZFSBLKS"        24  32  the blob's store key
    8   4  version                 56   8  xxh3-64 of bytes 0..56
    12  4  block size in bytes     64   8  entry of block 0, then 8 bytes a block
    16  8  blob size in bytes

An entry is the xxh3-64 of the block's bytes, or of no bytes at all if the block is absent, with a seed of its
own: the first 64 bits of the store key, plus the block's index. So blocks cannot be taken for each other,
within a blob or between two, not even if their entries moved along; and an entry that was overwritten, be it
by zeros, is no absent block but a damaged one, which is found and counted when it is read (docs/adr/0011).

Magic, version and the header's own checksum keep their places in every version, so that a newer file can be
told from a damaged one.
"""

import struct
from collections.abc import Callable
from enum import StrEnum

from lazyfs.core.blob import Grid

MAGIC = b"LZFSBLKS"
VERSION = 2
ENTRY_BYTES = 8
_FIELDS = struct.Struct("<8sIIQ32s")
_CHECK = struct.Struct("<Q")
HEADER_BYTES = _FIELDS.size + _CHECK.size
ABSENT = -1
"""What stands in memory for an absent block: no checksum is negative."""
_SEEDS = 1 << 64

Checksum = Callable[[bytes | memoryview, int], int]
"""xxh3-64 of bytes, with a seed."""


class Taken(StrEnum):
    """What became of a file that was loaded."""

    YES = "yes"
    DAMAGED = "damaged, or of another blob"
    OTHER_GRID = "of another block size"
    OLDER = "written by an older lazyfs"
    NEWER = "written by a newer lazyfs"


class BlockTable:
    """Which blocks of one blob are stored, by their checksums."""

    def __init__(self, grid: Grid, size_bytes: int, store_key: str, checksum: Checksum) -> None:
        self._grid = grid
        self._size_bytes = size_bytes
        self._store_key = store_key
        self._seed = int(store_key[:16], 16)
        self._checksum = checksum
        self._entries = [ABSENT] * grid.count(size_bytes)
        self._stored_count = 0
        self._stored_bytes = 0

    def __len__(self) -> int:
        """Return how many blocks the blob has, stored or not."""
        return len(self._entries)

    def __getitem__(self, index: int) -> int:
        """Return the checksum of block `index`; `ABSENT` when it is not stored."""
        return self._entries[index]

    def __setitem__(self, index: int, entry: int) -> None:
        """Record that block `index` is stored with this checksum, or (`ABSENT`) that it is not."""
        before, self._entries[index] = self._entries[index], entry
        change = (entry != ABSENT) - (before != ABSENT)
        self._stored_count += change
        self._stored_bytes += change * self._grid.span(self._size_bytes, index).size_bytes

    def clear(self) -> None:
        """Record that no block is stored."""
        self._entries = [ABSENT] * len(self._entries)
        self._stored_count = self._stored_bytes = 0

    @property
    def stored(self) -> tuple[int, ...]:
        """The indices of all stored blocks."""
        return tuple(index for index, entry in enumerate(self._entries) if entry != ABSENT)

    def beyond(self, size_bytes: int) -> tuple[int, ...]:
        """Return the stored blocks that do not lie within a file of so many bytes."""
        return tuple(
            index for index in self.stored if self._grid.span(self._size_bytes, index).stop > size_bytes
        )

    @property
    def stored_bytes(self) -> int:
        """Bytes of all stored blocks."""
        return self._stored_bytes

    @property
    def complete(self) -> bool:
        """Whether every block is stored (true of a blob without blocks)."""
        return self._stored_count == len(self._entries)

    def checksum_of(self, index: int, content: bytes | memoryview) -> int:
        """Return the entry of block `index` when it holds `content`."""
        return self._checksum(content, (self._seed + index) % _SEEDS)

    def encoded(self, index: int, entry: int) -> bytes:
        """Return the 8 bytes that stand in the file for an entry of block `index`, or for its absence."""
        value = self.checksum_of(index, b"") if entry == ABSENT else entry
        return value.to_bytes(ENTRY_BYTES, "little")

    def header(self) -> bytes:
        """Return the 64 bytes that open the file."""
        fields = _FIELDS.pack(
            MAGIC, VERSION, self._grid.block_bytes, self._size_bytes, bytes.fromhex(self._store_key)
        )
        return fields + _CHECK.pack(self._checksum(fields, 0))

    def encode(self) -> bytes:
        """Return the whole file."""
        return self.header() + b"".join(
            self.encoded(index, entry) for index, entry in enumerate(self._entries)
        )

    def load(self, content: bytes) -> Taken:
        """Take over the entries of a file, if it is this blob's, whole, and no longer than that."""
        if content[:HEADER_BYTES] != self.header():
            return self._why_not(content)
        if len(content) != HEADER_BYTES + ENTRY_BYTES * len(self):
            return Taken.DAMAGED
        for index, entry in enumerate(struct.unpack_from(f"<{len(self)}Q", content, HEADER_BYTES)):
            self[index] = ABSENT if entry == self.checksum_of(index, b"") else entry
        return Taken.YES

    def _why_not(self, content: bytes) -> Taken:
        """Tell what a file is that does not begin as this blob's does."""
        if len(content) < HEADER_BYTES or content[: len(MAGIC)] != MAGIC:
            return Taken.DAMAGED
        (check,) = _CHECK.unpack_from(content, _FIELDS.size)
        if check != self._checksum(content[: _FIELDS.size], 0):
            return Taken.DAMAGED
        _, version, _, size_bytes, store_key = _FIELDS.unpack_from(content)
        if version != VERSION:
            return Taken.NEWER if version > VERSION else Taken.OLDER
        ours = (size_bytes, store_key) == (self._size_bytes, bytes.fromhex(self._store_key))
        return Taken.OTHER_GRID if ours else Taken.DAMAGED


def entry_offset(index: int) -> int:
    """Return where in the file the entry of block `index` lies."""
    return HEADER_BYTES + ENTRY_BYTES * index
