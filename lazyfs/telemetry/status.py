"""What a mount says of itself: one document for `.lazyfs/status.json`, `/status` and `lazyfs status`."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Where a mount is in its life."""

    LOADING = "loading"
    """Bytes are still coming in, or will be asked for."""
    COMPLETE = "complete"
    """Every byte of the snapshot is on this node."""
    SERVING = "serving"
    """Nothing more is fetched ahead, though nothing is wrong; what is missing comes when it is read."""
    STALLED = "stalled"
    """Something is wanted, by a reader or ahead of them, and nothing arrives: `last_error` says why."""


@dataclass(frozen=True, slots=True)
class Status:
    """All sizes in bytes, all durations in seconds, times in seconds since the epoch."""

    phase: Phase
    source: str
    """All sources, as they were typed, in one text."""
    sources: tuple[str, ...]
    mountpoint: str
    snapshot: str
    version: str
    pid: int
    """Of the process that holds the mount: the one to send signals to."""
    worker_pid: int
    """Of the one that serves it now."""
    restarts: int
    """How many workers of this mount have died."""
    started_at: float
    ready_after_s: float | None
    complete_after_s: float | None
    files: int
    files_verified: int
    """How many were found to have their publisher's digest, in the store."""
    bytes_needed: int
    """Of all files but duplicates (core.duplicates)."""
    bytes_local: int
    """Of these, so many are on this node."""
    bytes_served: int
    bytes_fetched: int
    rate_bytes_per_s: float
    eta_s: float | None
    oldest_wait_s: float
    oldest_wait: str
    flights: int
    repairs: int
    declined: int
    errors: int
    last_error: str
    memory_bytes: int
    memory_budget_bytes: int
    cache_bytes: int
    cache_budget_bytes: int
    cache_state: str
    """healthy, degraded, probing or bypass (core.diskhealth); off without a cache."""
    cache_why: str
    """What is the trouble, if there is any."""
    untuned: tuple[str, ...]

    def to_json(self) -> str:
        """Return the document; `from_json` reads it."""
        text = json.dumps(asdict(self), ensure_ascii=False)
        # A name that is no UTF-8 has half-surrogates; as `\udc80` they are JSON.
        return text.encode("utf-8", "backslashreplace").decode()


def from_json(text: str | bytes) -> dict[str, Any]:
    """Return the document as a dictionary: another version of lazyfs may have more fields, or fewer.

    Raises:
        ValueError: when it is not a JSON object.

    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a status document")  # noqa: TRY004 - a value of JSON, not a type of ours
    return document


class RateMeter:
    """Bytes a second over the last few seconds, from samples of a growing count. Pure."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._samples: list[tuple[float, float]] = []

    def sample(self, now_s: float, count_bytes: float) -> float:
        """Take note of the count now; return the rate."""
        self._samples.append((now_s, count_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - self._window_s:  # noqa: PLR2004
            del self._samples[0]
        (then_s, before_bytes) = self._samples[0]
        return max(0.0, count_bytes - before_bytes) / (now_s - then_s) if now_s > then_s else 0.0


def printable(name: str) -> str:
    """Return a name as it is, or quoted if it holds what a terminal would act on."""
    return name if name.isprintable() else repr(name)


def bytes_text(count: float) -> str:
    """Return a count of bytes for people: `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def duration_text(seconds: float) -> str:
    """Return a duration for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
