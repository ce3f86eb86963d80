"""Writes replies to the kernel: at once, or from threads while copying into the page cache is slow.

A reply is copied by the system call, with the interpreter lock released. Usually 1 MiB takes 0.1 ms, less
than handing it to a thread. On a virtual machine whose free memory was given back to its host every fresh
page cache page must first be fetched from there: then it takes 1 to 2 ms, one core serves 0.5 GB/s, and
several serve several times as much. So large replies are timed, and go to threads exactly while they are
slow.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from lazyfs.fuse import wire

log = logging.getLogger(__name__)

Parts = Sequence[bytes | memoryview]

LARGE_BYTES = 256 << 10
SLOW_BYTES_PER_S = 1.5e9
CLOSE_S = 0.5
BACKLOG_MAX = 8
"""Replies that wait for a thread keep their blocks' memory; beyond so many the sender itself writes."""


@dataclass(frozen=True, slots=True)
class SenderStatistics:
    """What a sender is doing."""

    threads: int
    """Threads that were started; none while copying is fast."""
    unwritten: int
    """Replies that wait for a thread, or are being written by one."""


class Sender:
    """Sends through one descriptor. `send` is for one thread; `close` ends the others.

    `answered` is called, in whichever thread, with the request whose reply has been written. `bytes_per_s` is
    how fast replies are copied into the kernel, until some have been measured.
    """

    def __init__(
        self,
        fd: int,
        answered: Callable[[int], None],
        threads: int | None = None,
        bytes_per_s: float = 2 * SLOW_BYTES_PER_S,
    ) -> None:
        self._fd = fd
        self._answered = answered
        self._count = threads or min(4, os.cpu_count() or 1)
        self._queue: SimpleQueue[Parts | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._unwritten_count = 0

    def statistics(self) -> SenderStatistics:
        """Return what is being done now."""
        return SenderStatistics(len(self._threads), self._unwritten_count)

    def send(self, parts: Parts) -> None:
        """Send one reply. It may be gone when this returns, or a moment later."""
        large = sum(map(len, parts)) >= LARGE_BYTES
        if not large or self._bytes_per_s > SLOW_BYTES_PER_S or self._queue.qsize() >= BACKLOG_MAX:
            self._write(parts)
            return
        while len(self._threads) < self._count:
            self._threads.append(threading.Thread(target=self._work, daemon=True, name="sender"))
            self._threads[-1].start()
        with self._lock:
            self._unwritten_count += 1
        self._queue.put(parts)

    def _work(self) -> None:
        while (parts := self._queue.get()) is not None:
            self._write(parts)
            with self._lock:
                self._unwritten_count -= 1
            del parts  # or its view would keep a block's memory while this waits

    def _write(self, parts: Parts) -> None:
        """Write one reply. Its request may be gone by now, or the whole mount: then nobody needs it."""
        began_s = time.perf_counter()
        try:
            size = os.writev(self._fd, parts)
        except OSError as error:
            if error.errno != errno.ENOENT and error.errno not in wire.ENDED:
                log.warning("reply_failed error=%r", error.strerror)
            return
        finally:
            self._answered(wire.reply_unique(parts[0]))
        if size >= LARGE_BYTES:
            rate = size / max(time.perf_counter() - began_s, 1e-9)
            # An average over some ten replies: single ones are slow for other reasons.
            self._bytes_per_s += (rate - self._bytes_per_s) / 8

    def close(self) -> bool:
        """Let the threads finish what they have, and end; return whether all have, within `CLOSE_S`.

        Otherwise they still use the descriptor: it must not be closed.
        """
        for _ in self._threads:
            self._queue.put(None)
        deadline_s = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
