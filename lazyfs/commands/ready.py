"""`lazyfs ready`: whether a mount answers, for probes that ask every second.

So it imports little, and `lazyfs.__main__` comes here before the command line is imported: that alone takes
longer than the answer. It asks as `lazyfs status` does, from a child, and never hangs.
"""

import sys
from pathlib import Path

from lazyfs.fuse.liveness import ANSWER_TIMEOUT_S, Liveness, read_status
from lazyfs.fuse.mountinfo import FILESYSTEM, lazyfs_mounts, mounted_at
from lazyfs.supervisor.preflight import resolve

_WHY = {
    Liveness.DEAD: "the process that served it is gone: every access fails",
    Liveness.HANGS: f"it did not answer within {ANSWER_TIMEOUT_S} s",
    Liveness.HIDDEN: "it may not be read by this user: it was mounted without --allow-other",
}


def show(mountpoint: Path | None) -> int:
    """Return 0 when the mount answers, all of them without a mountpoint; else 1, and say why in one line."""
    why = _unready(mountpoint)
    if why:
        sys.stderr.write(f"lazyfs: not ready: {why}\n")
    return 1 if why else 0


def _unready(mountpoint: Path | None) -> str:
    if mountpoint is None:
        paths = [Path(mounted.mountpoint) for mounted in lazyfs_mounts()]
        return next(filter(None, map(_silent, paths)), "") if paths else "nothing is mounted here"
    path = resolve(mountpoint)
    mounted = mounted_at(path)
    if mounted is None or mounted.filesystem != FILESYSTEM:
        return f"{path} is not a lazyfs mount"
    return _silent(path)


def _silent(path: Path) -> str:
    said = read_status(path)
    return f"{path}: {_WHY[said]}" if isinstance(said, Liveness) else ""
