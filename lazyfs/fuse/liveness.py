"""Asking a mount that may hang: always from another process, always with a bound.

A process that waits for a dead FUSE server can be in a state that not even SIGKILL ends. So the asking is
done by a child that is left behind if it does not come back, never by ourselves.
"""

import errno
import os
import subprocess
from enum import StrEnum
from pathlib import Path

from lazyfs.core.reserved import RESERVED_NAME, STATUS_NAME

ANSWER_TIMEOUT_S = 1.5
# What a request fails with whose connection has ended, also while it was under way (fs/fuse/dev.c).
_ENDED = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV)
STATUS_PATH = f"{RESERVED_NAME}/{STATUS_NAME}"


class Liveness(StrEnum):
    """How a mount answers."""

    ALIVE = "alive"
    DEAD = "dead"
    """Its server is gone: every access fails with "Transport endpoint is not connected"."""
    HANGS = "hangs"
    """Its server is there and does not answer."""
    HIDDEN = "hidden"
    """It answers, but not to this user."""


def ask(command: list[str], timeout_s: float) -> tuple[int, bytes, str] | None:
    """Run a command; return its exit status, output and error output, or None when it did not end in time."""
    environment = {**os.environ, "LC_ALL": "C"}
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()  # and no wait: it may be unkillable
        return None
    return child.returncode, out, err.decode("utf-8", "replace")


def liveness(mountpoint: Path) -> Liveness:
    """Tell whether the file system mounted at `mountpoint` answers."""
    return state_of(ask(["stat", "-f", "--", str(mountpoint)], ANSWER_TIMEOUT_S))


def read_status(mountpoint: Path) -> bytes | Liveness:
    """Return the status document of a mount, or how it fails to give one."""
    answer = ask(["cat", "--", str(mountpoint / STATUS_PATH)], ANSWER_TIMEOUT_S)
    state = state_of(answer)
    return answer[1] if answer is not None and state is Liveness.ALIVE else state


def state_of(answer: tuple[int, bytes, str] | None) -> Liveness:
    """Return what it says of a mount how a command that looked at it has ended; None: it has not."""
    if answer is None:
        return Liveness.HANGS
    code, _, said = answer
    if not code:
        return Liveness.ALIVE
    return Liveness.DEAD if any(os.strerror(number) in said for number in _ENDED) else Liveness.HIDDEN
