"""The mounted snapshot's blocks on disk: whole-block reads that are checked, writes that commit by checksum.

Called from several threads. `has` never does I/O. Nothing here is ever a reader's trouble: a block that
cannot be written is declined, one that cannot be read back right is `BlockCorrupt`, and the caller fetches it
again.
"""

import errno
import logging
import os
import threading
import time
from enum import StrEnum
from pathlib import Path

import xxhash

from lazyfs.cache.budget import Budget
from lazyfs.cache.directory import CacheDirectory
from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, Grid
from lazyfs.core.blocktable import (
    ABSENT,
    VERSION,
    BlockTable,
    encode_entry,
    entry_of,
    entry_offset,
    version_of,
)
from lazyfs.core.manifest import Manifest
from lazyfs.errors import BlockCorrupt, BlockGone, CacheUnusable

log = logging.getLogger(__name__)

PAUSE_S = 30.0
"""After trouble with the disk, how long nothing is written."""


class Outcome(StrEnum):
    """What became of a write."""

    STORED = "stored"
    OVER_BUDGET = "over_budget"
    DISK_TROUBLE = "disk_trouble"


class Store:
    """Blocks of one snapshot. Made with `open_store`."""

    def __init__(self, directory: CacheDirectory, grid: Grid, blobs: dict[int, BlobRef]) -> None:
        self._directory = directory
        self._grid = grid
        self._blobs = blobs
        self._tables = {inode: self._table(blob) for inode, blob in blobs.items()}
        self._rejected: set[int] = set()
        self._prepared: set[int] = set()
        self._lock = threading.Lock()
        # Of two writers that find a table to replace, the second would wipe what the first has written.
        self._preparing = threading.Lock()
        self._paused_until_s = 0.0
        self._budget = Budget(directory, frozenset(blob.store_key for blob in blobs.values()))

    def _table(self, blob: BlobRef) -> BlockTable:
        return BlockTable(self._grid, blob.size_bytes, blob.store_key, xxhash.xxh3_64_intdigest)

    def load(self, budget_bytes: int | None) -> None:
        """Read what is there, and set the budget (None: `auto`).

        Raises:
            CacheUnusable: when a table was made by a newer version, or the disk is full and something is
            missing.

        """
        for inode, blob in self._blobs.items():
            self._load_table(inode, blob)
        leavable_bytes = self._budget.measure(budget_bytes)
        free_bytes = self._directory.free_bytes()
        if self.missing_bytes and free_bytes + leavable_bytes < min(
            self._grid.block_bytes, self.missing_bytes
        ):
            raise CacheUnusable(
                f"cache directory {self._directory.root} is full ({free_bytes} bytes free)",
                "free some space, choose another --cache-dir, or mount without a cache: --cache-size 0",
            )

    def _load_table(self, inode: int, blob: BlobRef) -> None:
        try:
            content = (self._directory.blob_path(blob.store_key) / "blocks").read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("cache_table_unreadable blob=%r error=%r", blob.name, error.strerror)
            return
        self._directory.touch(blob.store_key)
        if self._tables[inode].load(content):
            return
        version = version_of(content)
        if version is not None and version > VERSION:
            raise CacheUnusable(
                f"cache directory {self._directory.root} was written by a newer lazyfs (table v{version})",
                "upgrade lazyfs, or choose another --cache-dir",
            )
        self._rejected.add(inode)
        log.warning("cache_table_rejected blob=%r why=%r", blob.name, "damaged, or of another block size")

    @property
    def missing_bytes(self) -> int:
        """Bytes of the snapshot that are not stored."""
        return sum(blob.size_bytes for blob in self._blobs.values()) - self.stored_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of the snapshot that are stored."""
        return sum(table.stored_bytes for table in self._tables.values())

    @property
    def used_bytes(self) -> int:
        """What all blobs in the directory take, as far as this process knows."""
        return self._budget.used_bytes

    @property
    def capacity_bytes(self) -> int:
        """The budget of the whole directory."""
        return self._budget.capacity_bytes

    def has(self, key: BlockKey) -> bool:
        """Tell whether a block should be on disk. No I/O."""
        return self._tables[key.inode][key.index] != ABSENT

    def read(self, key: BlockKey, into: memoryview) -> None:
        """Read a stored block and check it. `into` is page-aligned, and the block's length in whole pages.

        Raises:
            BlockCorrupt: when it cannot be read back as it was written; the store has then forgotten it.

        """
        blob = self._blobs[key.inode]
        size = self._grid.span(blob.size_bytes, key.index).size_bytes
        expected = self._tables[key.inode][key.index]
        try:
            got = self._pread(blob, key.index * self._grid.block_bytes, into)
        except FileNotFoundError:
            self._forget_blob(key.inode)
            raise BlockGone(f"{blob.name} is no longer in the cache") from None
        except OSError as error:
            self.forget(key)
            raise BlockCorrupt(f"block {key.index} of {blob.name}: {error.strerror}") from None
        if got < size or entry_of(xxhash.xxh3_64_intdigest(into[:size])) != expected:
            self.forget(key)
            raise BlockCorrupt(f"block {key.index} of {blob.name} does not match its checksum")

    def _pread(self, blob: BlobRef, offset: int, into: memoryview) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if self._directory.direct else 0)
        fd = os.open(self._directory.blob_path(blob.store_key) / "data", flags)
        try:
            filled = 0
            while filled < len(into):
                got = os.preadv(fd, [into[filled:]], offset + filled)
                filled += got
                if not got or filled % PAGE_BYTES:
                    break  # the end of the file
            if not self._directory.direct:
                os.posix_fadvise(fd, offset, len(into), os.POSIX_FADV_DONTNEED)
            return filled
        finally:
            os.close(fd)

    def write(self, key: BlockKey, content: memoryview) -> Outcome:
        """Store a block: the data first, its checksum after. Never raises for the disk's sake."""
        if time.monotonic() < self._paused_until_s:
            return Outcome.DISK_TROUBLE
        reserved = False
        try:
            reserved = self._budget.reserve(len(content))
            if not reserved:
                return Outcome.OVER_BUDGET
            self._write(key, content)
        except OSError as error:
            if reserved:
                self._budget.release(len(content))
            self._paused_until_s = time.monotonic() + PAUSE_S
            log.warning(
                "cache_write_failed dir=%r error=%r pause_s=%d consequence=%r",
                str(self._directory.root),
                error.strerror,
                PAUSE_S,
                "blocks are served and not kept",
            )
            return Outcome.DISK_TROUBLE
        return Outcome.STORED

    def _write(self, key: BlockKey, content: memoryview) -> None:
        entry = entry_of(xxhash.xxh3_64_intdigest(content))
        for attempt in range(2):
            try:
                self._prepare(key.inode)
                path = self._directory.blob_path(self._blobs[key.inode].store_key)
                self._pwrite(path / "data", key.index * self._grid.block_bytes, content)
                fd = os.open(path / "blocks", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.pwrite(fd, encode_entry(entry), entry_offset(key.index))
                finally:
                    os.close(fd)
                break
            except FileNotFoundError:
                # Evicted by another process, or deleted by somebody: make it anew, once.
                self._prepared.discard(key.inode)
                if attempt:
                    raise
        with self._lock:
            self._tables[key.inode][key.index] = entry

    def _prepare(self, inode: int) -> None:
        with self._preparing:
            if inode in self._prepared:
                return
            blob = self._blobs[inode]
            empty = self._table(blob).encode()
            self._directory.prepare(blob, empty, replace=inode in self._rejected)
            self._prepared.add(inode)
            self._rejected.discard(inode)

    def _pwrite(self, path: Path, offset: int, content: memoryview) -> None:
        """Write whole pages past the page cache, and what remains of a blob's last block through it."""
        whole = len(content) // PAGE_BYTES * PAGE_BYTES if self._directory.direct else 0
        _pwrite_all(path, os.O_DIRECT, offset, content[:whole])
        _pwrite_all(path, 0, offset + whole, content[whole:])

    def forget(self, key: BlockKey) -> None:
        """Drop a block: its entry becomes zero, here and, if the disk will, in the table."""
        with self._lock:
            if self._tables[key.inode][key.index] == ABSENT:
                return
            self._tables[key.inode][key.index] = ABSENT
        self._budget.release(self._grid.span(self._blobs[key.inode].size_bytes, key.index).size_bytes)
        path = self._directory.blob_path(self._blobs[key.inode].store_key) / "blocks"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, encode_entry(ABSENT), entry_offset(key.index))
            finally:
                os.close(fd)
        except OSError:
            return

    def _forget_blob(self, inode: int) -> None:
        """Drop all blocks of a blob whose files are gone."""
        with self._lock:
            stored_bytes = self._tables[inode].stored_bytes
            self._tables[inode].clear()
            self._prepared.discard(inode)
        self._budget.release(stored_bytes)
        if stored_bytes:
            log.warning("cache_blob_gone blob=%r bytes=%d", self._blobs[inode].name, stored_bytes)

    def touch(self) -> None:
        """Say that this snapshot's blobs are in use: they leave last."""
        for blob in self._blobs.values():
            self._directory.touch(blob.store_key)


def open_store(
    directory: CacheDirectory, grid: Grid, blobs: dict[int, BlobRef], manifest: Manifest, budget: int | None
) -> Store:
    """Return the store of a snapshot, with what earlier mounts left in it.

    Raises:
        CacheUnusable: see `Store.load`.

    """
    store = Store(directory, grid, blobs)
    store.load(budget)
    try:
        directory.save_snapshot(manifest)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            log.warning("snapshot_not_saved dir=%r error=%r", str(directory.root), error.strerror)
    return store


def _pwrite_all(path: Path, flag: int, offset: int, content: memoryview) -> None:
    if not content:
        return
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flag)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(fd, content[written:], offset + written)
    finally:
        os.close(fd)
