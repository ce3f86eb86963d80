"""The plan of who wants everything and reads nothing: a pull. Every block once, file after file.

In natural order of their names, so that files come to their ends one after another: what is left to do for a
whole file (its digest, its place) is done while the next ones come.
"""

from collections.abc import Mapping

from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.plan import natural_key


class WholePlan:
    """Which block comes next. Knows keys, not bytes."""

    def __init__(self, blobs: Mapping[int, BlobRef], grid: Grid) -> None:
        self.order = sorted(blobs, key=lambda inode: natural_key(blobs[inode].name))
        """Inodes, as they come."""
        self._seen = {inode: bytearray(grid.count(blob.size_bytes)) for inode, blob in blobs.items()}
        self._place = 0
        """All files before this one have been gone through."""

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left."""
        return self._place == len(self.order)

    def first_wanted(self) -> tuple[BlockKey, ...]:
        """Return what is wanted before everything else: nothing."""
        return ()

    def next_warm(self) -> BlockKey | None:
        """Return, and mark, the block that comes next; None when there is none."""
        while self._place < len(self.order):
            inode = self.order[self._place]
            index = self._seen[inode].find(0)
            if index >= 0:
                self._seen[inode][index] = 1
                return BlockKey(inode, index)
            self._place += 1
        return None

    def mark(self, key: BlockKey) -> None:
        """Say that a block is here or on its way."""
        self._seen[key.inode][key.index] = 1

    def unmark(self, key: BlockKey) -> None:
        """Say that a block is not coming after all."""
        self._seen[key.inode][key.index] = 0
        self._place = 0

    def give_up(self, inode: int) -> None:
        """Say that nothing of a blob is wanted."""
        self._seen[inode][:] = b"\1" * len(self._seen[inode])

    def want(self, inode: int) -> None:
        """Say that all of a blob is wanted after all."""
        self._seen[inode][:] = bytes(len(self._seen[inode]))
        self._place = 0
