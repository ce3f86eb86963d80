"""The `blocks` file of a stored blob: a header, then one checksum per block.

The checksum is the commit record: a block is in the store exactly when its entry is not zero and the data's
xxh3-64 equals it. So a table needs no log and no fsync: whatever a crash leaves is either right or found out.

Layout, little-endian, 64 bytes of header::

    0   8  magic "LZFSBLKS"        24  32  the blob's store key
    8   4  version                 56   8  xxh3-64 of bytes 0..56
    12  4  block size in bytes     64   8  entry of block 0, then 8 bytes a block
    16  8  blob size in bytes

The header names the blob, so that two blobs' files cannot be taken for each other, however they were swapped.
"""

import struct
from collections.abc import Callable

from lazyfs.core.blob import Grid

MAGIC = b"LZFSBLKS"
VERSION = 1
ENTRY_BYTES = 8
_FIELDS = struct.Struct("<8sIIQ32s")
_CHECK = struct.Struct("<Q")
HEADER_BYTES = _FIELDS.size + _CHECK.size
ABSENT = 0

Checksum = Callable[[bytes], int]


class BlockTable:
    """Which blocks of one blob are stored, by their checksums."""

    def __init__(self, grid: Grid, size_bytes: int, store_key: str, checksum: Checksum) -> None:
        self._grid = grid
        self._size_bytes = size_bytes
        self._store_key = store_key
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
    def stored_bytes(self) -> int:
        """Bytes of all stored blocks."""
        return self._stored_bytes

    @property
    def complete(self) -> bool:
        """Whether every block is stored (true of a blob without blocks)."""
        return self._stored_count == len(self._entries)

    def header(self) -> bytes:
        """Return the 64 bytes that open the file."""
        fields = _FIELDS.pack(
            MAGIC, VERSION, self._grid.block_bytes, self._size_bytes, bytes.fromhex(self._store_key)
        )
        return fields + _CHECK.pack(self._checksum(fields))

    def encode(self) -> bytes:
        """Return the whole file."""
        return self.header() + struct.pack(f"<{len(self)}Q", *self._entries)

    def load(self, content: bytes) -> bool:
        """Take over the entries of a file; False, and nothing taken, when it is not this blob's.

        A file that is too short (a crash while it was made) gives absent blocks; what is too long is ignored.
        """
        if content[:HEADER_BYTES] != self.header():
            return False
        count = min(len(self), (len(content) - HEADER_BYTES) // ENTRY_BYTES)
        for index, entry in enumerate(struct.unpack_from(f"<{count}Q", content, HEADER_BYTES)):
            self[index] = entry
        return True


def entry_offset(index: int) -> int:
    """Return where in the file the entry of block `index` lies."""
    return HEADER_BYTES + ENTRY_BYTES * index


def encode_entry(entry: int) -> bytes:
    """Return the 8 bytes of one entry."""
    return entry.to_bytes(ENTRY_BYTES, "little")


def entry_of(checksum: int) -> int:
    """Return the entry for a block with this xxh3-64: zero means absent, so a real zero becomes 1."""
    return checksum or 1


def version_of(content: bytes) -> int | None:
    """Return the format version a `blocks` file claims; None when it is no such file."""
    if len(content) < HEADER_BYTES or content[: len(MAGIC)] != MAGIC:
        return None
    return int.from_bytes(content[8:12], "little")
