"""Before anything is mounted: whether the mountpoint is fit, and clearing a dead mount out of the way."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lazyfs.errors import MountpointError, UsageError
from lazyfs.fuse.channel import detach
from lazyfs.fuse.liveness import Liveness, liveness
from lazyfs.fuse.mountinfo import FILESYSTEM, Mounted, mounted_at

log = logging.getLogger(__name__)


def resolve(mountpoint: Path, links_max: int = 40) -> Path:
    """Return the mountpoint's absolute path, links followed, without looking at a mount: it may hang."""
    absolute = Path(os.path.abspath(mountpoint))  # noqa: PTH100 - Path.resolve would look at the mount
    path = absolute.parent.resolve() / absolute.name
    with suppress(OSError):  # whatever is wrong with the name shows when it is opened
        if links_max and mounted_at(path) is None and path.is_symlink():
            return resolve(path.parent / path.readlink(), links_max - 1)
    return path


def refuse_inside(mountpoint: Path, **paths: Path | None) -> None:
    """Refuse paths below the mountpoint: what lies there is hidden by the mount, or makes it not empty.

    Raises:
        UsageError: when one of `paths`, named like options, lies there.

    """
    path = resolve(mountpoint)
    for name, inside in paths.items():
        if inside is not None and Path(os.path.abspath(inside)).is_relative_to(path):  # noqa: PTH100 - as above
            raise UsageError(
                f"--{name.replace('_', '-')} {inside} lies in the mountpoint {path}", "choose a place outside"
            )


@contextmanager
def claimed(mountpoint: Path) -> Iterator[Path]:
    """Check the mountpoint and hold it while mounting; a dead lazyfs mount there is cleaned away.

    Raises:
        MountpointError: when it is missing, not a directory, not empty, in use, or mounted already.

    """
    path = resolve(mountpoint)
    mounted = mounted_at(path)
    if mounted is not None and mounted.filesystem.startswith("fuse"):
        _clear(path, mounted)
    fd = _open(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MountpointError(
                f"mountpoint {path} is busy: another lazyfs is mounting there",
                "wait for it, or choose another",
            ) from None
        if os.listdir(fd):  # noqa: PTH208 - by descriptor: the one that is locked
            raise MountpointError(
                f"mountpoint {path} is not empty", "choose an empty directory: a mount would hide its files"
            )
        yield path
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MountpointError(f"mountpoint {path} does not exist", f"make it: mkdir -p {path}") from None
    except NotADirectoryError:
        raise MountpointError(f"mountpoint {path} is not a directory", "choose an empty directory") from None
    except OSError as error:
        raise MountpointError(f"mountpoint {path}: {error.strerror}", "choose another directory") from None


def _clear(path: Path, mounted: Mounted) -> None:
    """Take a dead mount of ours away; refuse a live one, and whatever is not ours."""
    if mounted.filesystem != FILESYSTEM:
        raise MountpointError(
            f"mountpoint {path} is busy: {mounted.source} is mounted there ({mounted.filesystem})",
            "unmount it, or choose another directory",
        )
    state = liveness(path)
    if state is Liveness.ALIVE:
        raise MountpointError(
            f"mountpoint {path} is already a lazyfs mount of {mounted.source}",
            f"use it, or end it: lazyfs unmount {path}",
        )
    if state is Liveness.HANGS:
        raise MountpointError(
            f"mountpoint {path} is a lazyfs mount that does not answer",
            f"take it away: lazyfs unmount --force {path}",
        )
    log.warning("stale_mount_cleaned mountpoint=%r source=%r", str(path), mounted.source)
    detach(path)
