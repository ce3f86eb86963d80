"""The channel to the kernel: an open /dev/fuse that is mounted, and how to take a mount away again.

As root by mount(2); otherwise by fusermount3, which hands the descriptor over a socket. Either way pyfuse3
only ever sees `/dev/fd/N`, so that one day a supervisor can hold the descriptor and a worker serve it.
"""

import array
import ctypes
import errno
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lazyfs.errors import FuseUnavailable, MountpointError
from lazyfs.fuse.mountinfo import FILESYSTEM, Mounted, mounted_at

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOATIME = 1, 2, 4, 1024
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
UNMOUNT_WAIT_S = 2.0

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Channel:
    """A mounted FUSE descriptor."""

    fd: int
    mountpoint: Path
    device: str
    """The mount's own, `0:N`: what tells it from a later mount at the same place."""


def open_channel(mountpoint: Path, source: str, *, allow_other: bool) -> Channel:
    """Mount at `mountpoint` and return the channel to serve it with.

    Raises:
        FuseUnavailable: without /dev/fuse, or without permission to mount.

    """
    require_device()
    if os.geteuid() == 0:
        channel = open_as_root(mountpoint, source, allow_other=allow_other)
        if channel is not None:
            return channel
    return _channel(_fusermount(mountpoint, source, allow_other=allow_other), mountpoint)


def open_as_root(mountpoint: Path, source: str, *, allow_other: bool) -> Channel | None:
    """Mount by mount(2), starting no other process; None when this root may not.

    Raises:
        FuseUnavailable: without /dev/fuse, or when it cannot be mounted there.

    """
    fd = _mount(mountpoint, source, allow_other=allow_other)
    return None if fd is None else _channel(fd, mountpoint)


def require_device() -> None:
    """Check that there is a /dev/fuse.

    Raises:
        FuseUnavailable: when there is none.

    """
    if not Path("/dev/fuse").exists():
        raise FuseUnavailable(
            "there is no /dev/fuse",
            "load the module (modprobe fuse), or give the container the device (--device /dev/fuse)",
        )


def _channel(fd: int, mountpoint: Path) -> Channel:
    mounted = mounted_at(mountpoint)
    return Channel(fd, mountpoint, mounted.device if mounted else "")


def _mount(mountpoint: Path, source: str, *, allow_other: bool) -> int | None:
    """Mount by mount(2); None when this root may not, as in an unprivileged container."""
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise FuseUnavailable(
            f"cannot open /dev/fuse: {error.strerror}", "give the container the device (--device /dev/fuse)"
        ) from None
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions"
    options += ",allow_other" if allow_other else ""
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(mountpoint),
        FILESYSTEM.encode(),
        ctypes.c_ulong(flags),
        options.encode(),
    )
    if done == 0:
        return fd
    reason = ctypes.get_errno()
    os.close(fd)
    if reason == errno.EPERM:
        return None
    raise FuseUnavailable(
        f"cannot mount at {mountpoint}: {os.strerror(reason)}", "run `lazyfs status` to see what is there"
    )


def _fusermount(mountpoint: Path, source: str, *, allow_other: bool) -> int:
    """Have fusermount3 mount, and take the descriptor it sends (libfuse, util/fusermount.c: _FUSE_COMMFD)."""
    program = shutil.which("fusermount3")
    if program is None:
        raise FuseUnavailable(
            "mounting is not permitted here, and there is no fusermount3",
            "run as root with CAP_SYS_ADMIN, or install the fuse3 package",
        )
    # fusermount3 splits options at commas.
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    options = f"ro,nosuid,nodev,noatime,default_permissions,subtype=lazyfs,fsname={name}"
    options += ",allow_other" if allow_other else ""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ran = subprocess.run(
            [program, "-o", options, "--", str(mountpoint)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            said = " ".join(ran.stderr.split()).removeprefix("fusermount3: ") or "fusermount3 failed"
            raise FuseUnavailable(
                f"mounting is not permitted: {said}",
                "run as root with CAP_SYS_ADMIN, or see `man fusermount3`",
            )
        return _receive_fd(ours)


def _receive_fd(sock: socket.socket) -> int:
    size = array.array("i").itemsize
    _, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(size))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fd = array.array("i", content[:size])[0]
            os.set_inheritable(fd, False)
            return fd
    raise FuseUnavailable("fusermount3 sent no descriptor", "check its version: it should be 3.2 or later")


def detach(mountpoint: Path, device: str | None = None) -> None:
    """Take mounts of ours at `mountpoint` away at once, whoever still uses them; never touches the files.

    `device`: only the mount with this one; another lazyfs may have been mounted there since.

    Raises:
        MountpointError: when that is not permitted.

    """
    while (mounted := mounted_at(mountpoint)) is not None and mounted.filesystem == FILESYSTEM:
        if device is not None and device != mounted.device:
            return
        _unmount(mountpoint, lazy=True)


def unmount(mountpoint: Path, *, lazy: bool) -> None:
    """Unmount, and wait a moment until the mount is gone; `lazy` also while it is in use.

    Raises:
        MountpointError: when there is no lazyfs mount, it is in use, or that is not permitted.

    """
    mounted = mounted_at(mountpoint)
    if mounted is None or mounted.filesystem != FILESYSTEM:
        kind = f"a {mounted.filesystem} mount" if mounted else "not a mount"
        raise MountpointError(f"{mountpoint} is {kind}", "`lazyfs status` lists the lazyfs mounts")
    _unmount(mountpoint, lazy=lazy)
    deadline_s = time.monotonic() + UNMOUNT_WAIT_S
    while _still_there(mountpoint, mounted) and time.monotonic() < deadline_s:
        time.sleep(0.01)


def _still_there(mountpoint: Path, mounted: Mounted) -> bool:
    now = mounted_at(mountpoint)
    return now is not None and now.device == mounted.device


def _unmount(mountpoint: Path, *, lazy: bool) -> None:
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    if _libc.umount2(os.fsencode(mountpoint), flags) == 0:
        return
    reason = ctypes.get_errno()
    if reason == errno.EPERM:
        reason = _fusermount_unmount(mountpoint, lazy=lazy)
    if reason == errno.EBUSY:
        raise MountpointError(
            f"{mountpoint} is in use, or its lazyfs does not answer",
            "end its readers first, or take it from them: lazyfs unmount --force",
        )
    if reason == errno.EPERM:
        raise MountpointError(f"{mountpoint} may not be unmounted by this user", "be its owner or root")
    if reason not in {0, errno.EINVAL, errno.ENOENT}:  # it went by itself
        raise MountpointError(f"cannot unmount {mountpoint}: {os.strerror(reason)}")


def _fusermount_unmount(mountpoint: Path, *, lazy: bool) -> int:
    """Unmount as the owner who is not root; return an errno, 0 when it worked."""
    program = shutil.which("fusermount3")
    if program is None:
        return errno.EPERM
    command = [program, "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return 0
    return errno.EBUSY if "busy" in ran.stderr.lower() else errno.EPERM
