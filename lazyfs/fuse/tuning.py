"""What can only be tuned after the mount, through sysfs: the kernel's read-ahead.

Its default of 128 KiB makes requests of 128 KiB; with 1 MiB one thread of Python serves three times as much,
and with 8 MiB several requests are on their way while a reader copies (docs/adr/0009).
(The number of background requests is set in the reply to INIT, see `wire.adjust_init`.)
"""

from pathlib import Path

from lazyfs.fuse.mountinfo import Mounted


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
    return untuned
