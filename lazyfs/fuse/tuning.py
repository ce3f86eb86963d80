"""What can only be tuned after the mount, through sysfs: the kernel's read-ahead.

Its default of 128 KiB makes requests of 128 KiB; with 1 MiB one thread of Python serves three times as much,
and with 8 MiB several requests are on their way while a reader copies (docs/adr/0009).
(The number of background requests is set in the reply to INIT, see `wire.adjust_init`.)
"""

import errno
from pathlib import Path

from lazyfs.fuse.mountinfo import Mounted

READ_AHEADS = "/sys/devices/virtual/bdi"
"""Where /sys/class/bdi leads to. A container whose sysfs is read-only is given the node's directory here."""


def tune(mounted: Mounted, read_ahead_bytes: int) -> list[str]:
    """Tune a mount; return what could not be tuned, each with what it costs and the cure."""
    read_ahead_kb = max(1, read_ahead_bytes // 1024)
    file = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
    try:
        file.write_text(str(read_ahead_kb))
    except OSError as error:
        cost = f"read-ahead could not be set ({error.strerror}): reads stay at 128 KiB, a third of the speed"
        return [f"{cost}; {_cure(error, read_ahead_kb, file)}"]
    return []


def _cure(error: OSError, read_ahead_kb: int, file: Path) -> str:
    # A privileged container's sysfs can be read-only: with containerd before the fix of its issues 3221 and
    # 8445 it shares the superblock of the pause container's, and no flag of a mount changes that.
    if error.errno == errno.EROFS:
        return (
            f"sysfs is read-only in this container: give it the host's {READ_AHEADS}, at the same path "
            "(Kubernetes: a hostPath volume)"
        )
    if error.errno == errno.ENOENT:
        return f"there is no {file}: mount sysfs (mount -t sysfs sysfs /sys)"
    return f"run as root, or have root write {read_ahead_kb} to {file}"
