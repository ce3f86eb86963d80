"""Giving up what a worker does not need: it talks to the network, and everything it needs it is handed.

capabilities(7), prctl(2): credentials are of a thread, so this comes before there are any others.
"""

import ctypes
import os
import pwd
import signal
import struct
from contextlib import suppress
from pathlib import Path

from lazyfs.errors import UsageError

_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 1, 24, 38, 47
_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64
_USUAL, _HURRY = os.getpriority(os.PRIO_PROCESS, 0), -10
"""Nice values (setpriority(2))."""
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have this process killed when its parent, with this process id, dies; also when it has died already.

    To be said again after the user has changed: the kernel then forgets it.
    """
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def hurry() -> None:
    """Have this process go before others on a busy machine, where that is permitted; until `relax`."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _HURRY)


def relax() -> None:
    """Go back to the priority this process was started with; threads may have begun meanwhile."""
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            thread = int(task.name)
            os.setpriority(os.PRIO_PROCESS, thread, max(_USUAL, os.getpriority(os.PRIO_PROCESS, thread)))


def drop(user: str | None) -> None:
    """Become `user` if given, and lose every capability, for good. Without root there is nothing to lose.

    Raises:
        UsageError: when there is no such user.

    """
    if os.geteuid() == 0:
        for number in range(_CAPABILITIES):
            _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)  # those above the last one there is are refused
        if user is not None:
            _become(user)
        _libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        if _libc.capset(header, bytes(6 * 4)):
            raise OSError(ctypes.get_errno(), "capset failed")
    _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def identity(user: str) -> tuple[int, int, list[int]]:
    """Return user id, group id and supplementary groups of a `--user`.

    Raises:
        UsageError: when there is no user of that name.

    """
    number, _, group = user.partition(":")
    if number.isdigit():
        return int(number), int(group or number), []
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(
            f"there is no user {user}", "give a user there is, or a number: --user 65534"
        ) from None
    return found.pw_uid, found.pw_gid, os.getgrouplist(user, found.pw_gid)


def make_for(user: str, directory: Path) -> None:
    """Make a directory that `user` owns; one that is there already stays as it is.

    Raises:
        UsageError: when there is no such user.

    """
    uid, gid, _ = identity(user)
    with suppress(FileExistsError):
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
        os.chown(directory, uid, gid)


def _become(user: str) -> None:
    uid, gid, groups = identity(user)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
