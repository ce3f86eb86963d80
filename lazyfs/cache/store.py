"""The mounted snapshot's blocks on disk: whole-block reads that are checked, writes that commit by checksum.

Called from several threads. `has` never does I/O. Nothing here is ever a reader's trouble: a block that
cannot be written is declined, one that cannot be read back right is `BlockCorrupt`, and the caller fetches it
again. `health` says whether the disk is worth trying at all.
"""

import errno
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from lazyfs.cache.blockfile import read_block, write_block, write_entry
from lazyfs.cache.budget import Budget
from lazyfs.cache.directory import CacheDirectory
from lazyfs.cache.health import CacheHealth, Deed
from lazyfs.cache.places import Kept, Places
from lazyfs.cache.verification import GoOn, Verdict, hash_stored
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.blocktable import ABSENT, entry_offset
from lazyfs.core.manifest import Manifest
from lazyfs.errors import BlockCorrupt, BlockGone, BlockUnreadable, CacheFull

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a write."""

    STORED = "stored"
    REPAIRED = "repaired"
    """Stored, in place of one that was lost when a file of the cache was damaged."""
    OVER_BUDGET = "over_budget"
    DISK_TROUBLE = "disk_trouble"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a store may keep, and what it may give out of what others have kept."""

    budget_bytes: int | None = None
    """Of the whole directory; None leaves a tenth of the disk free."""
    share_bytes: int | None = None
    """Of this store's own blobs, see `Budget`."""
    proven: bool = False
    """Of what lies under a digest, only what the blob's own origin once sent, see `Places`."""


class Store:
    """Blocks of one snapshot. Made with `open_store`."""

    def __init__(
        self,
        directory: CacheDirectory,
        grid: Grid,
        blobs: dict[int, BlobRef],
        terms: Terms,
        spared: frozenset[int] = frozenset(),
    ) -> None:
        """`spared` are the blobs that are stored if they are read, and not missed if they are not."""
        self._needed = [inode for inode in blobs if inode not in spared]
        self._directory = directory
        self._grid = grid
        self._places = Places(directory, grid, blobs, proven=terms.proven)
        self._budget = Budget(directory, self._places.store_keys, terms.share_bytes)
        self._lock = threading.Lock()
        self._suspect: dict[BlockKey, int] = {}
        """Damaged blocks of verified blobs: what must be written in their place."""
        self._unverifiable: set[int] = set()
        """Complete blobs that have been looked at, and stay where they are."""
        self.health = CacheHealth(directory.root)
        self.mended_snapshot = False
        """Whether the snapshot's manifest was one of the damaged files."""

    def load(self, budget_bytes: int | None) -> None:
        """Read what is there, and set the budget (None: `auto`).

        Raises:
            CacheUnusable: when a table was made by a newer version, or the disk is full and something is
            missing.

        """
        self._places.settle()
        leavable_bytes = self._budget.measure(budget_bytes)
        self._tell_of_older()
        free_bytes = self._directory.free_bytes()
        if self.missing_bytes and free_bytes + leavable_bytes < min(
            self._grid.block_bytes, self.missing_bytes
        ):
            raise CacheFull(
                f"cache directory {self._directory.root} is full ({free_bytes} bytes free)",
                "free some space, choose another --cache-dir, or mount without a cache: --cache-size 0",
            )
        room_bytes = self.capacity_bytes - self.used_bytes + leavable_bytes
        if self._budget.share_left_bytes is not None:
            room_bytes = min(room_bytes, self._budget.share_left_bytes)
        if self.missing_bytes > room_bytes:
            log.warning("cache_too_small missing=%d room=%d", self.missing_bytes, max(0, room_bytes))

    def _tell_of_older(self) -> None:
        """Say why what the node had fetched is fetched again."""
        if self._budget.older_bytes:
            log.warning(
                "cache_of_older_version dir=%r bytes=%d why=%r consequence=%r cure=%r",
                str(self._directory.root), self._budget.older_bytes,
                "its keys did not tell all servers apart", "it is not read, and leaves before anything else",
                f"to free it now, rm -r {self._directory.root}/v1",
            )  # fmt: skip

    @property
    def missing_bytes(self) -> int:
        """Bytes that are needed and not stored."""
        return sum(self._places[inode].blob.size_bytes for inode in self._needed) - self.stored_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes that are needed and stored."""
        return sum(self._places[inode].table.stored_bytes for inode in self._needed)

    @property
    def mended_count(self) -> int:
        """Files other than blocks that were found damaged, and were written anew."""
        return self._places.mended_count + self.mended_snapshot

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
        return self._places[key.inode].table[key.index] != ABSENT

    @property
    def readable(self) -> bool:
        """Whether stored blocks should be read now, rather than come from the network."""
        return self.health.open(Deed.READING)

    @property
    def writable(self) -> bool:
        """Whether a block handed to `write` would be tried now."""
        return self.health.open(Deed.WRITING)

    def read(self, key: BlockKey, into: memoryview) -> None:
        """Read a stored block and check it. `into` is page-aligned, and the block's length in whole pages.

        Raises:
            BlockUnreadable: when the disk refuses, or is not tried for now.
            BlockCorrupt: when it cannot be read back as it was written; the store has then forgotten it.

        """
        kept = self._places[key.inode]
        blob, table = kept.blob, kept.table
        size = self._grid.span(blob.size_bytes, key.index).size_bytes
        expected = table[key.index]
        if not self.health.admit(Deed.READING):
            raise BlockUnreadable(f"block {key.index} of {blob.name}: the disk is not read for now")
        path, began_s = self._directory.blob_path(blob.store_key) / "data", time.monotonic()
        try:
            got = read_block(path, key.index * self._grid.block_bytes, into, direct=self._directory.direct)
        except FileNotFoundError:
            self.health.withdraw(Deed.READING)
            self._gone(key.inode, kept)
            raise BlockGone(f"{blob.name} is no longer in the cache") from None
        except OSError as error:
            self.health.failed(Deed.READING, error)
            if error.errno != errno.EIO:  # the block may be as good as ever
                raise BlockUnreadable(f"block {key.index} of {blob.name}: {error.strerror}") from None
            self._forget(key, kept)
            raise BlockCorrupt(f"block {key.index} of {blob.name}: {error.strerror}") from None
        if got < size or table.checksum_of(key.index, into[:size]) != expected:
            self.health.ailed(Deed.READING, "blocks do not match their checksums")
            self._forget(key, kept)
            raise BlockCorrupt(f"block {key.index} of {blob.name} does not match its checksum")
        self.health.worked(Deed.READING, size, time.monotonic() - began_s)

    def read_hung(self, key: BlockKey, seconds: float) -> None:
        """Say that `read` has not returned for so long, and is not waited for."""
        log.warning("cache_read_hangs blob=%r block=%d", self._places[key.inode].blob.name, key.index)
        self.health.hung(Deed.READING, seconds)

    def write_hung(self, seconds: float) -> None:
        """Say that `write` has not returned for so long, and is not waited for."""
        self.health.hung(Deed.WRITING, seconds)

    def fell_behind(self) -> None:
        """Say that memory was wanted for other blocks before one could be written."""
        self.health.ailed(Deed.WRITING, "it is slower than the network")

    def write(self, key: BlockKey, content: memoryview) -> Outcome:
        """Store a block: the data first, its checksum after. Never raises for the disk's sake."""
        if self.has(key):  # it came from the network because the disk was not read
            return Outcome.STORED
        if not self.health.admit(Deed.WRITING):
            return Outcome.DISK_TROUBLE
        reserved = False
        try:
            reserved = self._budget.reserve(len(content))
            if not reserved:
                self.health.withdraw(Deed.WRITING)
                return Outcome.OVER_BUDGET
            began_s = time.monotonic()
            self._write(key, content)
        except OSError as error:
            if reserved:
                self._budget.release(len(content))
            self.health.failed(Deed.WRITING, error)
            return Outcome.DISK_TROUBLE
        self.health.worked(Deed.WRITING, len(content), time.monotonic() - began_s)
        with self._lock:
            repaired = key in self._places.lost
            self._places.lost.discard(key)
        return Outcome.REPAIRED if repaired else Outcome.STORED

    def _write(self, key: BlockKey, content: memoryview) -> None:
        kept = self._places[key.inode]
        if kept.verified and kept.table.checksum_of(key.index, content) != self._suspect.get(key):
            # What was verified is mended by itself alone: all of it begins anew.
            self._places.discard(kept)
            self._gone(key.inode, kept)
            kept = self._places[key.inode]
        try:
            self._write_once(key, content, kept)
        except FileNotFoundError:
            # Evicted by another process, deleted by somebody, or made anew meanwhile: once more.
            self._gone(key.inode, kept)
            self._write_once(key, content, self._places[key.inode])

    def _write_once(self, key: BlockKey, content: memoryview, kept: Kept) -> None:
        entry = kept.table.checksum_of(key.index, content)
        path = self._directory.blob_path(kept.blob.store_key)
        self._places.prepare(key.inode, kept)
        write_block(path / "data", key.index * self._grid.block_bytes, content, direct=self._directory.direct)
        if not kept.verified:
            write_entry(path / "blocks", entry_offset(key.index), kept.table.encoded(key.index, entry))
        with self._lock:
            if self._places[key.inode] is not kept:
                raise FileNotFoundError(errno.ENOENT, "the blob was made anew meanwhile", str(path))
            kept.table[key.index] = entry
            self._suspect.pop(key, None)

    def forget(self, key: BlockKey) -> None:
        """Drop a block: its entry becomes zero, here and, if the disk will, in the table."""
        self._forget(key, self._places[key.inode])

    def _forget(self, key: BlockKey, kept: Kept) -> None:
        """Drop a block. The table of a verified blob stays as it is: it says what must be there."""
        with self._lock:
            entry = kept.table[key.index]
            if entry == ABSENT or self._places[key.inode] is not kept:
                return  # in a blob that was made anew meanwhile the block is another's
            kept.table[key.index] = ABSENT
            if kept.verified:
                self._suspect[key] = entry
        self._budget.release(self._grid.span(kept.blob.size_bytes, key.index).size_bytes)
        if kept.verified:
            return
        path = self._directory.blob_path(kept.blob.store_key) / "blocks"
        with suppress(OSError):
            write_entry(path, entry_offset(key.index), kept.table.encoded(key.index, ABSENT))

    def _gone(self, inode: int, kept: Kept) -> None:
        """Drop all blocks of a blob whose files are gone."""
        with self._lock:  # or who has just written a block would take note of it in a place that is gone
            gone_bytes = self._places.gone(inode, kept)
        self._budget.release(gone_bytes)

    @property
    def verified_count(self) -> int:
        """How many blobs have been found to be what their publisher says."""
        return sum(kept.verified for kept in self._places)

    @property
    def verified_bytes(self) -> int:
        """Bytes of these."""
        return sum(kept.blob.size_bytes for kept in self._places if kept.verified)

    @property
    def unverified(self) -> list[int]:
        """The inodes of blobs that are complete, and have a digest that nobody has looked at.

        Empty ones have nothing that could be shared.
        """
        return [
            inode
            for inode, blob in self._places.published.items()
            if blob.digest is not None
            and blob.size_bytes
            and inode not in self._unverifiable
            and self._places[inode].table.complete
            and not self._places[inode].verified
        ]

    def verify(self, inode: int, go_on: GoOn) -> Verdict:
        """Hash a complete blob; if it is what its publisher says, put it where every origin finds it.

        Takes a second or so a gigabyte, and reads all of it from the disk. What is wrong is dropped.
        """
        kept, there = self._places[inode], self._places.empty(self._places.published[inode])
        hashed = hash_stored(self._directory, self._grid, kept, there, go_on)
        if hashed.verdict is Verdict.DAMAGED:
            self._forget(BlockKey(inode, hashed.block), kept)
        elif hashed.verdict is Verdict.WRONG:
            self._unverifiable.add(inode)
            log.error("digest_mismatch blob=%r origin=%r", kept.blob.name, kept.blob.origin)
            self._places.discard(kept)
            self._gone(inode, kept)
        elif hashed.verdict is Verdict.RIGHT:
            self._share(inode, kept, there)
        return hashed.verdict

    def _share(self, inode: int, kept: Kept, there: Kept) -> None:
        """Put a blob that is right under its digest; one that is there already becomes ours too."""
        self._unverifiable.add(inode)
        try:
            made = self._directory.promote(kept.blob, there.blob, there.table.encode())
            if not made:
                self._directory.vouch(there.blob.store_key, kept.blob.store_key)
        except OSError as error:
            log.warning("blob_not_shared blob=%r error=%r", kept.blob.name, error.strerror)
            return
        found = there if made else self._places.shared(inode)
        if found is None:  # its blocks are of another size: both stay
            return
        self._places.move(inode, kept, found)
        if not made:
            self._budget.release(kept.table.stored_bytes)

    def touch(self) -> None:
        """Say that this snapshot's blobs are in use: they leave last."""
        for kept in self._places:
            self._directory.touch(kept.blob.store_key)


def open_store(
    directory: CacheDirectory,
    grid: Grid,
    blobs: dict[int, BlobRef],
    manifest: Manifest,
    terms: Terms,
    spared: frozenset[int] = frozenset(),
) -> Store:
    """Return the store of a snapshot, with what earlier mounts left in it; the rest as `Store` has it.

    Raises:
        CacheUnusable: see `Store.load`.

    """
    store = Store(directory, grid, blobs, terms, spared)
    store.load(terms.budget_bytes)
    try:
        store.mended_snapshot = directory.save_snapshot(manifest)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            log.warning("snapshot_not_saved dir=%r error=%r", str(directory.root), error.strerror)
    return store
