"""Watches a pull, or the filling of a cache: shows how far it is, and logs a heartbeat."""

import logging
import time
from collections.abc import Callable

import trio

from lazyfs.telemetry.status import RateMeter
from lazyfs.telemetry.transfer import Transfer

log = logging.getLogger(__name__)

SAMPLE_S = 0.25
HEARTBEAT_S = 30.0


Show = Callable[[Transfer], None]


async def watch(look: Callable[[], tuple[int, int, str]], show: Show) -> None:
    """Show every now and then what `look` sees (bytes done, of how many, last error), and log it."""
    rate, beat_at_s = RateMeter(), time.monotonic() + HEARTBEAT_S
    while True:
        done, size, error = look()
        now_s = time.monotonic()
        seen = Transfer(done, size, rate.sample(now_s, done), error)
        show(seen)
        if now_s >= beat_at_s:
            beat_at_s += HEARTBEAT_S
            log.info(
                "transfer done=%d bytes=%d rate_bytes_per_s=%d last_error=%r",
                seen.done_bytes, seen.size_bytes, seen.rate_bytes_per_s, seen.last_error,
            )  # fmt: skip
        await trio.sleep(SAMPLE_S)
