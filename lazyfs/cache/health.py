"""Whether the disk of the cache is worth trying, for threads: `core.diskhealth` with clock and log."""

import errno
import logging
import threading
import time
from enum import StrEnum
from pathlib import Path

from lazyfs.core.diskhealth import DiskHealth, DiskState

log = logging.getLogger(__name__)

SLOW_S = 1.0
SLOW_BYTES_PER_S = 16e6
"""What takes longer than `SLOW_S` and is slower than this is slow: any network is faster."""


class Deed(StrEnum):
    """What is asked of a disk. A full or read-only disk can still be read, so each has a state of its own."""

    WRITING = "writing"
    READING = "reading"


_NOBODY_CAN = {
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENODEV,
    errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.EUCLEAN,
}  # fmt: skip
_GRAVE = {
    Deed.WRITING: _NOBODY_CAN | {errno.ENOSPC, errno.EDQUOT, errno.EIO},
    # One bad sector is no reason to leave the whole disk unread.
    Deed.READING: _NOBODY_CAN,
}
_CONSEQUENCES = {
    (Deed.WRITING, DiskState.DEGRADED): "still tried",
    (Deed.WRITING, DiskState.BYPASS): "blocks are served and not kept; it is tried again from time to time",
    (Deed.READING, DiskState.DEGRADED): "still tried",
    (
        Deed.READING,
        DiskState.BYPASS,
    ): "stored blocks come from the network; it is tried again from time to time",
}


class CacheHealth:
    """The state of the disk for each deed. Called from several threads; each change is logged once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._of = {deed: DiskHealth() for deed in Deed}
        self._said = dict.fromkeys(Deed, DiskState.HEALTHY)
        self.errors = dict.fromkeys(Deed, 0)
        """How often the disk failed, or did not answer."""

    def open(self, deed: Deed) -> bool:
        """Tell whether a try would be admitted now."""
        with self._lock:
            return self._of[deed].open(time.monotonic())

    def admit(self, deed: Deed) -> bool:
        """Tell whether to try; whoever is told so must report how it went."""
        with self._lock:
            return self._of[deed].admit(time.monotonic())

    def withdraw(self, deed: Deed) -> None:
        """Say that what was admitted was not tried after all."""
        with self._lock:
            self._of[deed].withdraw(time.monotonic())

    def worked(self, deed: Deed, size_bytes: int, seconds: float) -> None:
        """Say that so many bytes were written or read."""
        if seconds > SLOW_S and size_bytes < SLOW_BYTES_PER_S * seconds:
            self.ailed(deed, f"it took {seconds:.1f} s for {size_bytes} bytes")
            return
        with self._lock:
            self._of[deed].worked(time.monotonic())
        self.look()

    def ailed(self, deed: Deed, why: str) -> None:
        """Say that it was slow, or gave wrong bytes."""
        with self._lock:
            self._of[deed].ailed(time.monotonic(), why)
        self.look()

    def failed(self, deed: Deed, error: OSError) -> None:
        """Say that the disk refused."""
        why = error.strerror or str(error)
        self._failed(deed, why, grave=error.errno in _GRAVE[deed])

    def hung(self, deed: Deed, seconds: float) -> None:
        """Say that the disk has not answered for so long, and is not waited for."""
        self._failed(deed, f"it does not answer within {seconds:.0f} s", grave=True)

    def _failed(self, deed: Deed, why: str, *, grave: bool) -> None:
        with self._lock:
            self.errors[deed] += 1
            self._of[deed].failed(time.monotonic(), why, grave=grave)
        self.look()

    def look(self) -> tuple[DiskState, str]:
        """Return the worse of both states, and why; log what has changed since somebody looked last."""
        now_s = time.monotonic()
        with self._lock:
            states = {deed: (health.state(now_s), health.why) for deed, health in self._of.items()}
            changed = [deed for deed in Deed if self._changed(deed, states[deed][0])]
        for deed in changed:
            self._tell(deed, *states[deed])
        worst = max(states, key=lambda deed: list(DiskState).index(states[deed][0]))
        state, why = states[worst]
        return state, "" if state is DiskState.HEALTHY else f"{worst}: {why}"

    def _changed(self, deed: Deed, state: DiskState) -> bool:
        """Take note of a state; tell whether it is news. A probe is none."""
        if state is DiskState.PROBING or state is self._said[deed]:
            return False
        self._said[deed] = state
        return True

    def _tell(self, deed: Deed, state: DiskState, why: str) -> None:
        if state is DiskState.HEALTHY:
            log.info("cache_recovered dir=%r what=%s", str(self._root), deed)
            return
        log.warning(
            "cache_trouble dir=%r what=%s state=%s why=%r consequence=%r",
            str(self._root), deed, state, why, _CONSEQUENCES[deed, state],
        )  # fmt: skip
