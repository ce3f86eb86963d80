"""The ceiling of FUSE: how fast a file system that never waits is read, by mapping and by reading.

The file system is served by a child (`bench.synthetic`); this process is its reader.

What is read goes into the page cache, and on a virtual machine fresh pages may have to come from the host
first. That was seen to take four times as long as everything FUSE does, and happens to every model that is
read. So one pass goes into whatever memory is free, and the next ones into the memory that this one has left.
"""

import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lazyfs.bench.synthetic import FILES, MOUNTED
from lazyfs.errors import LazyfsError
from lazyfs.fuse.channel import detach
from lazyfs.fuse.mountinfo import mounted_at
from lazyfs.fuse.tuning import tune

FILE_BYTES_MAX = 1 << 30
MEMORY_SHARE = 8
"""What is read fills the page cache: one part in this many of the memory at most."""
PIECE_BYTES = 8 << 20
STOP_TIMEOUT_S = 5.0
SERVER = (sys.executable, "-m", "lazyfs.bench.synthetic")

Read = Callable[[int, int, bytearray], int]
"""Descriptor, offset, buffer -> bytes read."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Bytes a second: mapped, as engines read weights, into fresh memory and again; then by plain reads.

    CPU seconds are those of both processes, and of the second pass. `untuned` is as in a mount's status.
    """

    fresh_bytes_per_s: float
    mapped_bytes_per_s: float
    read_bytes_per_s: float
    cpu_s_per_byte: float
    untuned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoCeiling:
    """Why nothing was measured."""

    why: str


def measure(memory_bytes: int, read_ahead_bytes: int, step_s: float) -> Ceiling | NoCeiling:
    """Mount, read for `step_s` seconds at most each way, unmount; nothing is left."""
    size = max(1, min(FILE_BYTES_MAX, memory_bytes // MEMORY_SHARE) // PIECE_BYTES) * PIECE_BYTES
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as work:
        mountpoint = Path(work).resolve() / "mnt"
        mountpoint.mkdir()
        with _served(mountpoint, size) as server:
            assert server.stdout is not None
            said = server.stdout.readline().strip()
            if said != MOUNTED:
                return NoCeiling(said or "the process that serves it ended")
            return _read_all(server.pid, mountpoint, read_ahead_bytes, step_s)


@contextmanager
def _served(mountpoint: Path, size_bytes: int) -> "Iterator[subprocess.Popen[str]]":
    """Run the server in a session of its own, so that Ctrl-C is ours alone; end it with the block."""
    command = [*SERVER, str(mountpoint), str(size_bytes)]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield server
    finally:
        server.stdin.close()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()
        detach(mountpoint)


def _read_all(server: int, mountpoint: Path, read_ahead_bytes: int, step_s: float) -> Ceiling:
    # First of all an answer: the reply to INIT sets the read-ahead, and would undo what was tuned before.
    os.listdir(mountpoint)  # noqa: PTH208 - only to be answered
    mounted = mounted_at(mountpoint)
    if mounted is None:
        raise LazyfsError("the mount of the measurement is gone", "try again")
    untuned = tune(mounted, read_ahead_bytes)
    fresh = _read(mountpoint / FILES[0], _copy_mapped, FILE_BYTES_MAX, step_s)
    cpu_s = _cpu_s(server)
    mapped = _read(mountpoint / FILES[1], _copy_mapped, fresh.size_bytes, step_s)
    cpu_s = _cpu_s(server) - cpu_s
    read = _read(mountpoint / FILES[2], _pread, fresh.size_bytes, step_s)
    cpu_s_per_byte = (cpu_s + mapped.cpu_s) / mapped.size_bytes
    rates = fresh.bytes_per_s, mapped.bytes_per_s, read.bytes_per_s
    return Ceiling(*rates, cpu_s_per_byte, tuple(untuned))


@dataclass(frozen=True, slots=True)
class _Reading:
    size_bytes: int
    seconds: float
    cpu_s: float

    @property
    def bytes_per_s(self) -> float:
        return self.size_bytes / max(self.seconds, 1e-9)


def _read(path: Path, read: Read, size_bytes: int, step_s: float) -> _Reading:
    """Read a file from its start until so much is read, it ends, or the time is up; give its pages back."""
    fd, buffer, done = os.open(path, os.O_RDONLY | os.O_CLOEXEC), bytearray(PIECE_BYTES), 0
    try:
        began_s, cpu_s = time.monotonic(), time.process_time()
        while done < size_bytes and time.monotonic() - began_s < step_s and (got := read(fd, done, buffer)):
            done += got
        seconds, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return _Reading(done, seconds, cpu_s)
    finally:
        os.close(fd)


def _pread(fd: int, offset: int, buffer: bytearray) -> int:
    return os.preadv(fd, [buffer], offset)


def _copy_mapped(fd: int, offset: int, buffer: bytearray) -> int:
    """Copy out of a mapping, as an engine copies a tensor to its device."""
    size = min(len(buffer), os.fstat(fd).st_size - offset)
    if size:
        with mmap.mmap(fd, size, prot=mmap.PROT_READ, offset=offset) as mapped, memoryview(mapped) as view:
            memoryview(buffer)[:size] = view
    return size


def _cpu_s(process: int) -> float:
    """Return the CPU seconds a process has used, from /proc/PID/stat (proc(5): utime and stime)."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
