"""Signals as something to wait for: handlers only take a note, the loop does the rest."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

END = (signal.SIGINT, signal.SIGTERM)
RENEW = signal.SIGHUP
DUMP = signal.SIGUSR1
ACCESS = signal.SIGUSR2
"""Not a signal anybody sends: a call to tell workers of other credentials."""
_ALL = (*END, RENEW, DUMP, signal.SIGCHLD)


class Calls(Protocol):
    """What a supervisor is called for, as the numbers of signals."""

    fd: int
    """Readable when there are some."""

    def take(self) -> set[int]:
        """Return those that came since the last time."""
        ...

    def hung_up(self) -> bool:
        """Tell whether RENEW means that whoever watches has gone."""
        ...


class Signals:
    """Those that came and were not looked at yet; `fd` is readable when there are some."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self.fd = self._ours.fileno()
        self._terminal = _terminal()
        self._nohup = signal.getsignal(RENEW) is signal.SIG_IGN

    @contextmanager
    def caught(self) -> Iterator["Signals"]:
        """Catch them for the length of a block, and ignore them for a moment after it."""
        for number in _ALL:
            signal.signal(number, lambda *_: None)
        before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield self
        finally:
            # What comes now must not interrupt the end: more of them change nothing.
            for number in (*END, RENEW, DUMP):
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(before)
            self._ours.close()
            self._theirs.close()

    def take(self) -> set[int]:
        """Return the numbers of those that came since the last time."""
        try:
            return set(self._ours.recv(4096))
        except BlockingIOError:
            return set()

    def hung_up(self) -> bool:
        """Tell whether a SIGHUP means that our terminal has gone, not that somebody wants a new worker."""
        return self._terminal and not self._nohup and not _terminal()


def _terminal() -> bool:
    """Tell whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
