"""Asking a mount that may hang: always from another process, always with a bound.

A process that waits for a dead FUSE server can be in a state that not even SIGKILL ends. So the asking is
done by a child that is left behind if it does not come back, never by ourselves.
"""

import os
import subprocess
from enum import StrEnum
from pathlib import Path

ANSWER_TIMEOUT_S = 1.5
STATUS_FILE = ".lazyfs/status.json"


class Liveness(StrEnum):
    """How a mount answers."""

    ALIVE = "alive"
    DEAD = "dead"
    """Its server is gone: every access fails with "Transport endpoint is not connected"."""
    HANGS = "hangs"
    """Its server is there and does not answer."""


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


def liveness(mountpoint: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> Liveness:
    """Tell whether the file system mounted at `mountpoint` answers."""
    answer = ask(["stat", "-f", "--", str(mountpoint)], timeout_s)
    if answer is None:
        return Liveness.HANGS
    code, _, said = answer
    return Liveness.DEAD if code and "not connected" in said else Liveness.ALIVE


def read_status(mountpoint: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes | Liveness:
    """Return the status document of a mount, or how it fails to give one."""
    answer = ask(["cat", "--", str(mountpoint / STATUS_FILE)], timeout_s)
    if answer is None:
        return Liveness.HANGS
    code, document, _ = answer
    return Liveness.DEAD if code else document
