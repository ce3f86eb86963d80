"""What can only be tuned after the mount, through sysfs: read-ahead and the number of requests in flight.

The kernel's default read-ahead of 128 KiB makes requests of 128 KiB; with 1 MiB one thread of Python serves
three times as much. All page cache reads, page faults too, count as background requests; the default of 12 of
them would let 12 slow reads keep every other reader from being heard.
"""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazyfs.fuse.mountinfo import Mounted

MAX_BACKGROUND = 1024
_CONNECTIONS = Path("/sys/fs/fuse/connections")
_MNT_DETACH = 2


def tune(mounted: Mounted, read_ahead_bytes: int) -> list[str]:
    """Tune a mount; return what could not be tuned, each with what it costs and the cure."""
    untuned = []
    read_ahead_kb = max(1, read_ahead_bytes // 1024)
    file = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
    try:
        file.write_text(str(read_ahead_kb))
    except OSError as error:
        untuned.append(
            f"read-ahead could not be set ({error.strerror}): reads stay at 128 KiB, a third of the speed; "
            f"run as root, or have root write {read_ahead_kb} to {file}"
        )
    try:
        with _connection(mounted.connection) as connection:
            (connection / "max_background").write_text(str(MAX_BACKGROUND))
            (connection / "congestion_threshold").write_text(str(MAX_BACKGROUND * 3 // 4))
    except OSError as error:
        untuned.append(
            f"max_background could not be set ({error.strerror}): 12 slow reads can delay all others; run as "
            "root, or mount fusectl: mount -t fusectl none /sys/fs/fuse/connections"
        )
    return untuned


@contextmanager
def _connection(number: str) -> Iterator[Path]:
    """Give the connection's control directory, through a mount of our own where fusectl is not mounted."""
    if (_CONNECTIONS / number).is_dir():
        yield _CONNECTIONS / number
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="lazyfs-fusectl-") as directory:
        target = os.fsencode(directory)
        if libc.mount(b"none", target, b"fusectl", ctypes.c_ulong(0), b"") != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            yield Path(directory) / number
        finally:
            libc.umount2(target, _MNT_DETACH)
