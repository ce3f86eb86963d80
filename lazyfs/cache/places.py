"""Where in the cache directory blobs lie: under their digest, or where only their origin looks.

Whoever may write a `lazyfs.json` may claim any digest for any bytes. So a blob is stored under a hash of
where it came from, and when all of it has been hashed here it moves to its digest, where mounts of other
origins find it (docs/adr/0014). What lies there is whole and right, or it is taken away.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import xxhash

from lazyfs.cache.audit import audit
from lazyfs.cache.directory import CacheDirectory
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.blocktable import BlockTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Where a blob lies, and which of its blocks do. `blob` has a digest only where it was verified."""

    blob: BlobRef
    table: BlockTable

    @property
    def verified(self) -> bool:
        """Whether all of it had the publisher's digest when it was put there."""
        return self.blob.digest is not None


class Places:
    """The place of each blob, by inode. Called from several threads."""

    def __init__(
        self, directory: CacheDirectory, grid: Grid, published: dict[int, BlobRef], *, proven: bool = False
    ) -> None:
        """`proven`: a digest is only a way to what the blob's own origin once sent, see docs/adr/0014."""
        self._directory = directory
        self._proven = proven
        self._grid = grid
        self.published = published
        self._kept = {inode: self.empty(own(blob)) for inode, blob in published.items()}
        self._rejected: set[int] = set()
        self._prepared: set[int] = set()
        self._lock = threading.Lock()
        # Of two writers that find a table to replace, the second would wipe what the first has written.
        self._preparing = threading.Lock()
        self.lost: set[BlockKey] = set()
        """Blocks that were stored until a file was damaged."""
        self.mended_count = 0
        """Files other than blocks that were found damaged, and were written anew."""

    def __getitem__(self, inode: int) -> Kept:
        """Return where a blob lies now."""
        return self._kept[inode]

    def __iter__(self) -> Iterator[Kept]:
        """Yield all places."""
        return iter(tuple(self._kept.values()))

    @property
    def store_keys(self) -> frozenset[str]:
        """The keys of every place these blobs may have."""
        return frozenset(
            key for blob in self.published.values() for key in (blob.store_key, own(blob).store_key)
        )

    def empty(self, place: BlobRef) -> Kept:
        """Return a place of which nothing is known."""
        table = BlockTable(self._grid, place.size_bytes, place.store_key, xxhash.xxh3_64_intdigest)
        return Kept(place, table)

    def settle(self) -> None:
        """Look at the directory, and mend there what costs nothing.

        Raises:
            CacheUnusable: when a table was made by a newer version.

        """
        for inode in self._kept:
            shared = self.shared(inode)
            if shared is not None:
                self._kept[inode] = shared
            elif self._look(inode, self._kept[inode]):
                self._rejected.add(inode)

    def shared(self, inode: int) -> Kept | None:
        """Return the place under the digest of a blob, if there is one and it can be used."""
        kept = self.empty(self.published[inode])
        if not kept.verified or not self._directory.holds(kept.blob.store_key):
            return None
        origin_key = own(self.published[inode]).store_key
        if self._proven and not self._directory.vouched(kept.blob.store_key, origin_key):
            return None
        before = len(self.lost)
        rejected = self._look(inode, kept)
        if kept.table.complete and not rejected:
            return kept
        if len(self.lost) > before or not rejected:  # otherwise it is fine, and of another block size
            self.discard(kept)
        return None

    def _look(self, inode: int, kept: Kept) -> bool:
        """Read the table of a place; return whether it must be written anew."""
        found = audit(self._directory, kept.blob, self._grid, kept.table)
        self.lost |= {BlockKey(inode, index) for index in found.lost}
        self.mended_count += found.mended_count
        return found.rejected

    def discard(self, kept: Kept) -> None:
        """Take a place away, if the disk will."""
        with suppress(OSError):
            self._directory.discard(kept.blob.store_key)

    def move(self, inode: int, kept: Kept, there: Kept) -> None:
        """Say that a blob has moved; what it leaves behind is taken away."""
        with self._lock:
            self._kept[inode] = there
        self.discard(kept)
        log.info("verified blob=%r bytes=%d", kept.blob.name, kept.blob.size_bytes)

    def gone(self, inode: int, kept: Kept) -> int:
        """Hear that a place is gone; return how many stored bytes are.

        None of them when the blob has moved to its digest meanwhile.
        """
        with self._lock:
            if self._kept[inode] is not kept:
                return 0  # somebody else has looked already
        there = self.shared(inode)
        with self._lock:
            self._kept[inode] = there or self.empty(own(kept.blob))
            self._prepared.discard(inode)
        gone_bytes = 0 if there is not None else kept.table.stored_bytes
        if gone_bytes:
            log.warning("cache_blob_gone blob=%r bytes=%d", kept.blob.name, gone_bytes)
        return gone_bytes

    def prepare(self, inode: int, kept: Kept) -> None:
        """Make the files of a place where they are missing.

        Raises:
            OSError: when the disk will not.

        """
        with self._preparing:
            if inode in self._prepared or kept.verified:
                return
            empty = self.empty(kept.blob).table.encode()
            self._directory.prepare(kept.blob, empty, replace=inode in self._rejected)
            self._prepared.add(inode)
            self._rejected.discard(inode)


def own(blob: BlobRef) -> BlobRef:
    """Return the blob as it is stored before it was verified."""
    return replace(blob, digest=None)
