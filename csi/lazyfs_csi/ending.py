"""SIGTERM as something to wait for.

The main thread, which alone runs handlers, must not wait for a lock that one of them frees: the kernel may
give a signal to any thread, and then nothing wakes the main one. What every thread does at once is to write
to the wakeup descriptor.
"""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lazyfs.supervisor.signals import END


@contextmanager
def caught() -> Iterator[Callable[[], None]]:
    """Take note of SIGTERM and SIGINT for the length of a block; yields what waits for the first of them."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    for number in END:
        signal.signal(number, lambda *_: None)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        ours.recv(1)

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()
