"""A worker as its supervisor sees it: a process, a socket to it, and what is known of how it is."""

import os
import signal
import subprocess
import time
from enum import Enum, auto
from typing import Any

from lazyfs.supervisor.messages import Kind
from lazyfs.supervisor.spare import Spare


class Stage(Enum):
    """How far a worker has come."""

    STARTING = auto()
    JOINING = auto()
    """It has the descriptor, and has not shown its reply to INIT."""
    SERVING = auto()
    RETIRING = auto()
    """It answers what it has taken; another one takes what comes."""
    DOOMED = auto()
    """It was killed or has said its last word, and its end is waited for."""


class Worker:
    """One worker process."""

    def __init__(self, spare: Spare, order: dict[str, Any], fds: tuple[int, ...], region: int) -> None:
        """Tell it what to serve."""
        self._process = spare.process
        self.control = spare.control
        if not self.control.send(Kind.MOUNT, order, fds):
            self.kill()
        self.region = region
        """Where it remembers what it has taken, on a kernel that does not (`fuse.intake`)."""
        self.stage = Stage.STARTING
        self.served = False
        self.drained = False
        """Whether it has ended with everything answered."""
        self.followed = False
        """Whether its death has been counted, and the next one scheduled."""
        self.said: dict[str, Any] | None = None
        """Why it could not serve, if it said so."""
        self.stage_at_s = self.heard_at_s = self.began_at_s = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def enter(self, stage: Stage) -> None:
        """Take note of how far it has come."""
        self.stage = stage
        self.stage_at_s = self.heard_at_s = time.monotonic()

    @property
    def ended(self) -> str | None:
        """How it ended, for people; None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        return f"killed by {_signal_name(-code)}" if code < 0 else f"exit code {code}"

    @property
    def how(self) -> str:
        """Why it ended, for people: what it said, or else how it died."""
        if self.said is not None:
            return f"{self.said['error']}; {self.said['cure']}"
        return self.ended or "stuck in the kernel"

    def kill(self) -> None:
        """Kill it; its end comes a moment later, or never when it is stuck in the kernel."""
        self._process.kill()

    def tell(self, number: int) -> None:
        """Send it a signal."""
        if self._process.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; return whether it has come."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Close the socket to it."""
        self.control.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
