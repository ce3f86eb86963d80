"""What was sent so far, told while `lazyfs publish` is at work: a line on a terminal, log lines elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs.telemetry.status import bytes_text, duration_text

log = logging.getLogger(__name__)

TERMINAL_PERIOD_S = 0.2
LOG_PERIOD_S = 30.0


class Tally:
    """Bytes of files that are at the destination, out of all; told from many threads."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self.sent_bytes = 0
        self._lock = threading.Lock()

    def __call__(self, count: int, sent: bool) -> None:  # noqa: FBT001 - see `destination.Told`
        """Take note of bytes that are there now, and whether they had to be sent."""
        with self._lock:
            self.done_bytes += count
            self.sent_bytes += count * sent

    def line(self, elapsed_s: float) -> str:
        """Return how far it is, and what is left at this rate."""
        rate = self.sent_bytes / elapsed_s if elapsed_s else 0.0
        text = f"{bytes_text(self.done_bytes)} of {bytes_text(self.total_bytes)} are there"
        if not rate:
            return text
        left = duration_text((self.total_bytes - self.done_bytes) / rate)
        return f"{text}, {bytes_text(rate)}/s, {left} to go"


@contextmanager
def told(tally: Tally, *, terminal: bool) -> Iterator[None]:
    """Tell of the tally while the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(tally, ended, terminal), daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(tally: Tally, ended: threading.Event, terminal: bool) -> None:  # noqa: FBT001
    began_s = time.monotonic()
    while not ended.wait(TERMINAL_PERIOD_S if terminal else LOG_PERIOD_S):
        elapsed_s = time.monotonic() - began_s
        if terminal:
            sys.stderr.write(f"\r\033[K{tally.line(elapsed_s)}")
            sys.stderr.flush()
        else:
            log.info(
                "publishing done_bytes=%d total_bytes=%d sent_bytes=%d elapsed_s=%.0f",
                tally.done_bytes, tally.total_bytes, tally.sent_bytes, elapsed_s,
            )  # fmt: skip
    if terminal:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
