"""Blocks that mounts of this node have stored, for who only looks: nothing here is made, mended or touched.

Called from several threads. Whatever is wrong with the cache, there is just less in it.
"""

import errno
from collections.abc import Mapping
from pathlib import Path

import xxhash

from lazyfs.cache.blockfile import read_block, size_of
from lazyfs.cache.directory import CacheDirectory
from lazyfs.cache.places import Kept, own
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.blocktable import ABSENT, BlockTable, Taken
from lazyfs.errors import BlockCorrupt


class StoredBlocks:
    """The blocks of some blobs in a cache directory, which need not exist."""

    def __init__(self, root: Path, grid: Grid, blobs: Mapping[int, BlobRef]) -> None:
        self._directory = CacheDirectory(root, direct=True)
        self._grid = grid
        self._blobs = blobs
        self._kept: dict[int, Kept] = {}

    def look(self, inode: int) -> None:
        """Look up a blob: `has` knows its blocks from now on."""
        blob = self._blobs[inode]
        for place in (own(blob), blob):
            if place.digest is not None and not self._directory.holds(place.store_key):
                continue
            table = BlockTable(self._grid, place.size_bytes, place.store_key, xxhash.xxh3_64_intdigest)
            path = self._directory.blob_path(place.store_key)
            try:
                content = (path / "blocks").read_bytes()
            except OSError:
                continue
            if table.load(content) is Taken.YES:
                for index in table.beyond(size_of(path / "data")):
                    table[index] = ABSENT
                self._kept[inode] = Kept(place, table)

    def has(self, key: BlockKey) -> bool:
        """Tell whether a block should be there. No I/O."""
        kept = self._kept.get(key.inode)
        return kept is not None and kept.table[key.index] != ABSENT

    def read(self, key: BlockKey, into: memoryview) -> None:
        """Read a block and check it. `into` is page-aligned, and the block's length in whole pages.

        Raises:
            BlockCorrupt: when it is not there, or not right; it is not looked for again.

        """
        kept = self._kept[key.inode]
        blob, table = kept.blob, kept.table
        size = self._grid.span(blob.size_bytes, key.index).size_bytes
        path, offset = self._directory.blob_path(blob.store_key) / "data", key.index * self._grid.block_bytes
        try:
            got = self._read(path, offset, into)
        except OSError as error:
            self.forget(key)
            raise BlockCorrupt(f"block {key.index} of {blob.name}: {error.strerror}") from None
        if got < size or table.checksum_of(key.index, into[:size]) != table[key.index]:
            self.forget(key)
            raise BlockCorrupt(f"block {key.index} of {blob.name} does not match its checksum")

    def _read(self, path: Path, offset: int, into: memoryview) -> int:
        try:
            return read_block(path, offset, into, direct=self._directory.direct)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._directory.direct:
                raise
        self._directory.direct = False  # this file system has no O_DIRECT
        return read_block(path, offset, into, direct=False)

    def forget(self, key: BlockKey) -> None:
        """Leave a block out from now on."""
        self._kept[key.inode].table[key.index] = ABSENT
