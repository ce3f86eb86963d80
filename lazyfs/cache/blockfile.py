"""Blocks of a `data` file: read and written past the page cache where the file system lets us."""

import os
import tempfile
from pathlib import Path

from lazyfs.core.blob import PAGE_BYTES


def read_block(path: Path, offset: int, into: memoryview, *, direct: bool) -> int:
    """Fill `into`, which is page-aligned, from `offset` on; return how many bytes there were.

    Raises:
        OSError: when the disk will not.

    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0))
    try:
        filled = 0
        while filled < len(into):
            got = os.preadv(fd, [into[filled:]], offset + filled)
            filled += got
            if not got or filled % PAGE_BYTES:
                break  # the end of the file
        if not direct:
            os.posix_fadvise(fd, offset, len(into), os.POSIX_FADV_DONTNEED)
        return filled
    finally:
        os.close(fd)


def write_block(path: Path, offset: int, content: memoryview, *, direct: bool) -> None:
    """Write whole pages past the page cache, and what remains of a blob's last block through it.

    Raises:
        OSError: when the disk will not.

    """
    whole = len(content) // PAGE_BYTES * PAGE_BYTES if direct else 0
    _write(path, os.O_DIRECT, offset, content[:whole])
    _write(path, 0, offset + whole, content[whole:])


def write_entry(path: Path, offset: int, entry: bytes) -> None:
    """Write an entry of a table in its place.

    Raises:
        OSError: when the disk will not.

    """
    _write(path, 0, offset, memoryview(entry))


def _write(path: Path, flag: int, offset: int, content: memoryview) -> None:
    if not content:
        return
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flag)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(fd, content[written:], offset + written)
    finally:
        os.close(fd)


def size_of(path: Path) -> int:
    """Return how long a file is, in bytes; 0 of one that is not there or cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def data_spans(path: Path) -> list[tuple[int, int]]:
    """Return where a file has bytes rather than holes; nothing when it cannot be told.

    A file system that knows no holes says that all of it is bytes (lseek(2), SEEK_DATA).
    """
    found: list[tuple[int, int]] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        stop = 0
        while True:
            start = os.lseek(fd, stop, os.SEEK_DATA)
            stop = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, stop))
    except OSError:  # ENXIO: no bytes after this
        return found
    finally:
        os.close(fd)


def takes_direct_io(directory: Path) -> bool:
    """Write a file, to see whether that works, and tell whether it works without the page cache.

    A full disk passes: what is there can still be read.

    Raises:
        OSError: when no file can be made.

    """
    fd, name = tempfile.mkstemp(dir=directory, prefix="probe-")
    os.close(fd)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return False
    else:
        os.close(fd)
        return True
    finally:
        os.unlink(name)  # noqa: PTH108 - a name from mkstemp
