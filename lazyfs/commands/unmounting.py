"""`lazyfs unmount`."""

from pathlib import Path

from lazyfs.fuse.channel import unmount as unmount_channel
from lazyfs.fuse.liveness import Liveness, liveness
from lazyfs.supervisor.preflight import resolve


def unmount(mountpoint: Path, *, force: bool) -> None:
    """Unmount; a dead mount needs no force."""
    path = resolve(mountpoint)
    unmount_channel(path, lazy=force or liveness(path) is Liveness.DEAD)
