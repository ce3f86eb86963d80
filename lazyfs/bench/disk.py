"""The disk of the cache directory: blocks written and read back through a store of its own, then removed.

The store lies in a temporary directory beside what is cached, so nothing of that is touched; where the cache
directory does not exist yet, in the directory it would be made in.
"""

import mmap
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lazyfs.bench.crew import Work, together
from lazyfs.cache.directory import CacheDirectory, open_directory
from lazyfs.cache.store import Outcome, Store, Terms, open_store
from lazyfs.core.advice import DiskRates
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.manifest import build
from lazyfs.core.tree import FIRST_INODE
from lazyfs.errors import CacheUnusable

WRITTEN_BYTES_MAX = 512 << 20
ROOM_SHARE = 4
"""At most one part in this many of what a cache may hold here is written."""
WRITERS, READERS = 2, 4
"""As many as a mount has."""
PREFIX = "lazyfs-bench-"


@dataclass(frozen=True, slots=True)
class Disk:
    """What was measured; `direct` tells whether the page cache was left out of it, as it should be."""

    rates: DiskRates
    write_cpu_s_per_byte: float
    read_cpu_s_per_byte: float
    written_bytes: int
    direct: bool


@dataclass(frozen=True, slots=True)
class NoDisk:
    """Why nothing was measured."""

    why: str


def place(cache_dir: Path) -> Path:
    """Return the cache directory, or the directory it would be made in.

    Raises:
        CacheUnusable: when nobody may write there.

    """
    found = next(path for path in (cache_dir, *cache_dir.parents) if path.exists())
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise _unusable(cache_dir, "not writable" if found.is_dir() else f"{found} is not a directory")
    return found


def _unusable(cache_dir: Path, reason: str) -> CacheUnusable:
    return CacheUnusable(
        f"cache directory {cache_dir}: {reason}", "make it writable, or choose another --cache-dir"
    )


def capacity_bytes(cache_dir: Path) -> int:
    """Return how many bytes the cache may hold by `--cache-size auto`, with what is there now.

    Raises:
        CacheUnusable: see `place`.

    """
    used = sum(blob.allocated_bytes for blob in CacheDirectory(cache_dir, direct=True).stored())
    return CacheDirectory(place(cache_dir), direct=True).capacity_bytes(used)


def measure(cache_dir: Path, block_bytes: int, step_s: float) -> Disk | NoDisk:
    """Write blocks and read them back, each for `step_s` seconds at most; nothing is left.

    Raises:
        CacheUnusable: when the directory cannot be used.

    """
    free_bytes = CacheDirectory(place(cache_dir), direct=True).capacity_bytes(0)
    count = min(WRITTEN_BYTES_MAX, free_bytes // ROOM_SHARE) // block_bytes
    if not count:
        return NoDisk("there is no room: a tenth of the file system stays free")
    try:
        with tempfile.TemporaryDirectory(
            prefix=PREFIX, dir=place(cache_dir), ignore_cleanup_errors=True
        ) as work:
            return _measure(open_directory(Path(work)), Grid(block_bytes), count, step_s)
    except OSError as error:
        raise _unusable(cache_dir, error.strerror or str(error)) from None


def _measure(directory: CacheDirectory, grid: Grid, count: int, step_s: float) -> Disk | NoDisk:
    blob = BlobRef("bench", "bench", "bench", count * grid.block_bytes)
    manifest = build("bench", [blob])
    store = open_store(directory, grid, {FIRST_INODE: blob}, manifest, Terms())
    writing = _Pass(store, grid, range(count), step_s, writing=True)
    writing.run(WRITERS)
    if not writing.done:
        return NoDisk("it took no block: full, or failing")
    if not directory.direct:
        writing.extend(_flush(directory.blob_path(blob.store_key) / "data"))
    reading = _Pass(store, grid, sorted(writing.done), step_s, writing=False)
    reading.run(READERS)
    rates = DiskRates(writing.bytes_per_s, reading.bytes_per_s)
    written = len(writing.done) * grid.block_bytes
    return Disk(rates, writing.cpu_s_per_byte, reading.cpu_s_per_byte, written, directory.direct)


def _flush(path: Path) -> float:
    """Get a file onto the disk and out of the page cache; return the seconds it took."""
    began_s = time.monotonic()
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    return time.monotonic() - began_s


class _Pass:
    """One pass over blocks of the store, by several threads."""

    def __init__(
        self, store: Store, grid: Grid, indices: "range | list[int]", step_s: float, *, writing: bool
    ) -> None:
        self._store = store
        self._block_bytes = grid.block_bytes
        self._indices = iter(indices)
        self._lock = threading.Lock()
        self._step_s = step_s
        self._writing = writing
        self._took_s = self._cpu_s = 0.0
        self.done: list[int] = []

    def run(self, threads: int) -> None:
        """Go over the blocks until they end, or the time does."""
        works = [self._work() for _ in range(threads)]
        began_s, cpu_s = time.monotonic(), time.process_time()
        self._end_s = began_s + self._step_s
        together(works)
        self._took_s, self._cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s

    def extend(self, seconds: float) -> None:
        """Say that it took longer."""
        self._took_s += seconds

    def _work(self) -> Work:
        content = memoryview(mmap.mmap(-1, self._block_bytes))
        content[:] = os.urandom(self._block_bytes)  # some disks are quick with zeros

        def work(over: threading.Event) -> None:
            while not over.is_set():
                with self._lock:
                    index = next(self._indices, None) if time.monotonic() < self._end_s else None
                if index is None or not self._pass(BlockKey(FIRST_INODE, index), content):
                    return
                self.done.append(index)

        return work

    def _pass(self, key: BlockKey, content: memoryview) -> bool:
        if self._writing:
            return self._store.write(key, content) is Outcome.STORED
        self._store.read(key, content)
        return True

    @property
    def _bytes(self) -> int:
        return len(self.done) * self._block_bytes

    @property
    def bytes_per_s(self) -> float:
        """The rate."""
        return self._bytes / max(self._took_s, 1e-9)

    @property
    def cpu_s_per_byte(self) -> float:
        """CPU seconds a byte."""
        return self._cpu_s / max(self._bytes, 1)
