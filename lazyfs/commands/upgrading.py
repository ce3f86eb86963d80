"""`lazyfs upgrade`: a mount goes on being served, by the version that is installed now."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lazyfs.commands.status import ask
from lazyfs.errors import LazyfsError, MountpointError
from lazyfs.fuse.liveness import Liveness

WAIT_S, TICK_S = 40.0, 0.05


def upgrade(mountpoint: Path) -> None:
    """Have the worker of a mount replaced, and wait until its successor serves.

    Raises:
        MountpointError: when nothing of ours is mounted there, it does not answer, or is of another
            container.
        LazyfsError: when no successor came.

    """
    deadline_s = time.monotonic() + WAIT_S
    before = _status(mountpoint, deadline_s)
    _signal(mountpoint, before["pid"])
    while (now := _status(mountpoint, deadline_s))["worker_pid"] == before["worker_pid"]:
        if time.monotonic() > deadline_s:
            raise LazyfsError(
                f"{mountpoint} is still served by the old process",
                "its log says why the new one did not begin",
            )
        time.sleep(TICK_S)
    sys.stdout.write(
        f"{now['mountpoint']} is served by lazyfs {now['version']} (pid {now['worker_pid']}), "
        f"before by {before['version']} (pid {before['worker_pid']})\n"
    )


def _signal(mountpoint: Path, holder: int) -> None:
    """Tell the process that holds the mount, if it still does: the number may be of another one."""
    try:
        files = [entry.readlink() for entry in Path(f"/proc/{holder}/fd").iterdir()]
        why = "" if Path("/dev/fuse") in files else "it is another program"
        if not why:
            os.kill(holder, signal.SIGHUP)
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise MountpointError(
            f"the process that holds {mountpoint} (pid {holder}) cannot be signalled: {why}",
            "run this as who mounted it, in the same container",
        )


def _status(mountpoint: Path, deadline_s: float) -> dict[str, Any]:
    """Return what a mount says of itself; one that is busy is asked again."""
    (document,) = ask(mountpoint)
    while document["state"] == Liveness.HANGS and time.monotonic() < deadline_s:
        (document,) = ask(mountpoint)
    if document["state"] != Liveness.ALIVE:
        raise MountpointError(
            f"{mountpoint} does not answer: it is {document['state']}", "see `lazyfs status`"
        )
    return document
