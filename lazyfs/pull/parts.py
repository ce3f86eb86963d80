"""The files that are on their way: for each a `data` file of its final size, and a table of its blocks.

As in the store, a block is there exactly when its checksum is in the table and matches the data: data first,
checksum after, no log, no fsync. So a pull that was killed goes on where it was, and loses at most what was
in the air.

Called from several threads, never by two for one block.
"""

import hashlib
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import xxhash

from lazyfs.cache.blockfile import read_block, write_block, write_entry
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.blocktable import ABSENT, BlockTable, Taken, entry_offset
from lazyfs.core.tree import encode_name
from lazyfs.errors import BlockCorrupt


class Parts:
    """Unfinished files below `root`, by inode."""

    def __init__(self, root: Path, grid: Grid, blobs: Mapping[int, BlobRef], *, direct: bool) -> None:
        self._root = root
        self._grid = grid
        self._blobs = blobs
        self._direct = direct
        self._tables = {inode: self._table(blob) for inode, blob in blobs.items()}
        self._begun: set[int] = set()
        # Of two writers that find a file not begun, the second would wipe what the first has written.
        self._beginning = threading.Lock()

    def _table(self, blob: BlobRef) -> BlockTable:
        return BlockTable(self._grid, blob.size_bytes, blob.store_key, xxhash.xxh3_64_intdigest)

    def data(self, inode: int) -> Path:
        """Return the path of the unfinished file: another version of it has the same."""
        name = hashlib.sha256(encode_name(self._blobs[inode].name)).hexdigest()[:32]
        return self._root / f"{name}.data"

    def _blocks(self, inode: int) -> Path:
        return self.data(inode).with_suffix(".blocks")

    def look(self, inode: int) -> None:
        """Take over what an earlier pull has left of a file, if it is this version of it.

        Raises:
            OSError: when the disk will not.

        """
        table = self._tables[inode]
        try:
            taken = table.load(self._blocks(inode).read_bytes())
            whole = self.data(inode).stat().st_size == self._blobs[inode].size_bytes
        except FileNotFoundError:
            return
        if taken is Taken.YES and whole:
            self._begun.add(inode)
        else:
            table.clear()

    def has(self, key: BlockKey) -> bool:
        """Tell whether a block should be there. No I/O."""
        return self._tables[key.inode][key.index] != ABSENT

    def stored(self, inode: int) -> tuple[int, ...]:
        """Return the blocks of a file that should be there."""
        return self._tables[inode].stored

    def stored_bytes(self, inode: int) -> int:
        """Return how many bytes of a file should be there."""
        return self._tables[inode].stored_bytes

    def begin(self, inode: int) -> None:
        """Make a file that is of the blob's size and has no blocks yet, if it has not been begun.

        Raises:
            OSError: when the disk will not.

        """
        with self._beginning:
            if inode not in self._begun:
                self._make(inode)
                self._begun.add(inode)

    def _make(self, inode: int) -> None:
        data, blocks = self.data(inode), self._blocks(inode)
        blocks.unlink(missing_ok=True)  # it may be another version's
        fd = os.open(data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(fd, self._blobs[inode].size_bytes)
        finally:
            os.close(fd)
        blocks.write_bytes(self._tables[inode].encode())

    def write(self, key: BlockKey, content: memoryview) -> None:
        """Keep a block: the data first, its checksum after.

        Raises:
            OSError: when the disk will not.

        """
        table = self._tables[key.inode]
        entry = table.checksum_of(key.index, content)
        write_block(self.data(key.inode), key.index * self._grid.block_bytes, content, direct=self._direct)
        write_entry(self._blocks(key.inode), entry_offset(key.index), table.encoded(key.index, entry))
        table[key.index] = entry

    def read(self, key: BlockKey, into: memoryview) -> None:
        """Read a block back and check it. `into` is page-aligned, and the block's length in whole pages.

        Raises:
            BlockCorrupt: when it is not right, or cannot be read; it is forgotten.

        """
        blob, table = self._blobs[key.inode], self._tables[key.inode]
        size = self._grid.span(blob.size_bytes, key.index).size_bytes
        offset, why = key.index * self._grid.block_bytes, "does not match its checksum"
        try:
            got = read_block(self.data(key.inode), offset, into, direct=self._direct)
            if got >= size and table.checksum_of(key.index, into[:size]) == table[key.index]:
                return
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        self.forget(key)
        raise BlockCorrupt(f"block {key.index} of the unfinished {blob.name} {why}")

    def forget(self, key: BlockKey) -> None:
        """Drop a block."""
        table = self._tables[key.inode]
        table[key.index] = ABSENT
        with suppress(OSError):
            entry = table.encoded(key.index, ABSENT)
            write_entry(self._blocks(key.inode), entry_offset(key.index), entry)

    def remove(self, inode: int) -> None:
        """Take the table of a file away, and its data if they are still here.

        Raises:
            OSError: when the disk will not.

        """
        self._blocks(inode).unlink(missing_ok=True)
        self.data(inode).unlink(missing_ok=True)
