"""mount(2) as the node plugin uses it: by no other process, and without a look at a mount, which may hang."""

import ctypes
import os
import stat
from pathlib import Path

from lazyfs.errors import MountpointError
from lazyfs.fuse.channel import MS_NOATIME, MS_NODEV, MS_NOSUID, MS_RDONLY, detach
from lazyfs.fuse.mountinfo import FILESYSTEM, Mounted, lazyfs_mounts, mounted_at

_REMOUNT, _BIND = 32, 4096
_libc = ctypes.CDLL(None, use_errno=True)


def settled(target: str) -> Path:
    """Return a target as the list of mounts has it: links on the way to it followed, itself not looked at."""
    path = Path(os.path.abspath(target))  # noqa: PTH100 - Path.resolve would look at the mount
    return Path(os.path.realpath(path.parent)) / path.name


def bind(source: Path, target: Path) -> None:
    """Show what is mounted at `source` at `target` too, read-only; the directory is made if need be.

    Raises:
        MountpointError: when that is not possible, or something else is there.

    """
    _make(target)
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME
    _mount(source, target, _BIND)
    try:
        _mount(None, target, _BIND | _REMOUNT | flags)
    except MountpointError:
        detach(target)
        raise


def _make(target: Path) -> None:
    """Make the directory, or see to it that it is one: what is mounted over a link is where that leads."""
    other = mounted_at(target)
    if other is not None:
        raise MountpointError(f"{other.source} is mounted at {target}", "unmount it")
    try:
        os.makedirs(target, 0o750)  # noqa: PTH103 - Path.mkdir may look
    except FileExistsError:
        if stat.S_ISDIR(os.lstat(target).st_mode):
            return
        raise MountpointError(f"{target} is not a directory", "remove it") from None
    except OSError as error:
        raise MountpointError(f"{target} cannot be made: {error.strerror}", "see what is there") from None


def _mount(source: Path | None, target: Path, flags: int) -> None:
    said = None if source is None else os.fsencode(source)
    if _libc.mount(said, os.fsencode(target), None, ctypes.c_ulong(flags), None):
        reason = os.strerror(ctypes.get_errno())
        raise MountpointError(
            f"the volume cannot be mounted at {target}: {reason}", "see the log of the driver"
        )


def ours_at(target: Path) -> Mounted | None:
    """Return the mount of ours at a target, if that is what is on top there."""
    found = mounted_at(target)
    return found if found is not None and found.filesystem == FILESYSTEM else None


def anywhere_at(target: Path) -> bool:
    """Tell whether there is a mount of ours at a target, be it below another one."""
    return any(one.mountpoint == str(target) for one in lazyfs_mounts())


def take_away(target: Path) -> None:
    """Unmount all of ours at a target, be they dead or in use, and remove the directory. Idempotent.

    Raises:
        MountpointError: when that is not possible, or something else is there.

    """
    detach(target)
    other = mounted_at(target)
    if other is not None:
        raise MountpointError(f"{other.source} is mounted at {target}", "it is not lazyfs's to unmount")
    try:
        os.rmdir(target)  # noqa: PTH106 - Path.rmdir may look
    except FileNotFoundError:
        return
    except NotADirectoryError:
        Path(target).unlink(missing_ok=True)
    except OSError as error:
        raise MountpointError(f"{target} cannot be removed: {error.strerror}", "see what is in it") from None


def bound(device: str, source: Path) -> list[Path]:
    """Return where a mount is shown, apart from `source`, where it was mounted at first.

    A container that mounts a directory above `source` a second time has a copy of it there, too: nobody is
    shown that one. It is known by its last name, which no two mounts share.
    """
    places = (Path(one.mountpoint) for one in lazyfs_mounts() if one.device == device)
    return [place for place in places if place.name != source.name]


def copies(device: str, source: Path) -> list[Path]:
    """Return where this process has `source` besides at its own place; see `bound`."""
    places = (Path(one.mountpoint) for one in lazyfs_mounts() if one.device == device)
    return [place for place in places if place.name == source.name and place != source]
