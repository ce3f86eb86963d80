"""When a request is so late that a second one for the same bytes should go out. Pure.

"Late" means later than 99 of 100 requests like it would be (docs/adr/0013):

* Before its first byte: longer than the 99th percentile of the times to the first byte.
* After it: at the 99th percentile of *seconds a byte*, the bytes it has brought and the piece that is due
  next would have taken less time than has passed. So a small request is not measured by large ones, and one
  that stalls is late at the latest when all of it should have been here. Those below `PACE_BYTES` are
  measured as a whole, among themselves.

That alone would be fooled by a link that has become slow, where every request is late. So the others in the
air are asked, too: a request is only late when they have brought `LAG_BYTES` more than it has meanwhile, on
average; or when it flies alone, or nobody has got anything for a while.

Second requests are bounded by a bucket of tokens: a few at once, a few per cent in the long run.
"""

from bisect import bisect_left, insort
from collections import deque
from math import ceil

WINDOW = 256
"""So many observations back the percentile looks."""
TAIL_MOST = 10.0
"""The 99th percentile counts up to so many times the median: one stall in fifty must not excuse the next."""
FEW = 5.0
"""With `n` observations the percentile is taken `1 + FEW / n` times: of few, the slowest is not slow."""
START_S = 2.0
"""How long a request may be silent before anything has been observed."""
FLOOR_S = 0.05
"""Nothing is late before that: threads of a busy machine wait as long for their turn."""
PACE_BYTES = 512 << 10
"""Shorter requests say nothing about the rate: what is observed is how long they take."""
LAG_BYTES = 2 << 20
"""By so much, or as much as the whole request if that is less, the others must be ahead: a few pieces."""
QUIET_S = 0.2
"""When nobody gets anything the link may pause; it counts after so long, and a first byte's time."""
ATTENTION_S = 0.05
"""More time than that between two looks was not the server's: this process did not run."""
MORE_PATIENT = 4
"""After a second request that is late as well, how many times longer the next one waits."""
BURST, SHARE = 16, 0.05
"""Second requests at once, and for each request that ends well."""


def unseen(received_bytes: int) -> int:
    """Return how many bytes may have come that are not reported yet: pieces grow with what has come."""
    return min(1 << 20, max(128 << 10, received_bytes))


class Tail:
    """The slow end of what has been observed lately."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, value: float) -> None:
        """Take note of an observation."""
        if len(self._recent) == WINDOW:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        self._recent.append(value)
        insort(self._ordered, value)

    def limit(self) -> float | None:
        """Return what 99 of 100 will not exceed, as far as can be told; None before anything was observed."""
        count = len(self._ordered)
        if not count:
            return None
        p99 = self._ordered[ceil(0.99 * count) - 1]
        return min(p99, TAIL_MOST * self._ordered[count // 2]) * (1 + FEW / count)


class Trip:
    """One request under way. The thread that receives calls `landed`; all else belongs to `Hedging`."""

    def __init__(self, size_bytes: int, began_at_s: float, clock_s: float) -> None:
        self.size_bytes = size_bytes
        self.began_at_s = began_at_s
        self.received_bytes = 0
        self.first_byte_s: float | None = None
        self._first_bytes = 0
        self._landed_at_s = began_at_s
        self.began_clock_s = self.moved_clock_s = clock_s
        self.seen_bytes = 0
        self.lag_bytes = 0.0

    def landed(self, now_s: float, received_bytes: int) -> None:
        """Say that so many bytes are here now."""
        if self.first_byte_s is None:
            self.first_byte_s, self._first_bytes = now_s - self.began_at_s, received_bytes
        self.received_bytes, self._landed_at_s = received_bytes, now_s

    @property
    def short(self) -> bool:
        """Whether it is measured as a whole: of so few bytes no rate can be told."""
        return self.size_bytes < PACE_BYTES

    @property
    def taken_s(self) -> float:
        """Seconds until the latest bytes."""
        return self._landed_at_s - self.began_at_s

    @property
    def pace_s(self) -> float:
        """Seconds a byte, after the first bytes."""
        count = self.received_bytes - self._first_bytes
        return (self.taken_s - (self.first_byte_s or 0.0)) / count if count else 0.0


class Hedging:
    """Watches the requests in the air. Times are of one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._first_byte, self._pace, self._short = Tail(), Tail(), Tail()
        self._trips: dict[Trip, None] = {}
        self._tokens = float(BURST)
        self._clock_s = self._looked_at_s = 0.0
        self._moved_clock_s = 0.0

    def begin(self, now_s: float, size_bytes: int) -> Trip:
        """Say that a request for so many bytes goes out."""
        self.look(now_s)
        if not self._trips:
            self._moved_clock_s = self._clock_s
        trip = Trip(size_bytes, now_s, self._clock_s)
        self._trips[trip] = None
        return trip

    def end(self, trip: Trip, *, complete: bool) -> None:
        """Say that a request is over; only one that brought all it should is an observation."""
        del self._trips[trip]
        if not complete:
            return
        self._tokens = min(BURST, self._tokens + SHARE)
        if trip.first_byte_s is not None and not trip.seen_bytes:
            self._first_byte.add(trip.first_byte_s)
        if trip.short:
            self._short.add(trip.taken_s)
        else:
            self._pace.add(trip.pace_s)

    def look(self, now_s: float) -> None:
        """Take note of what has come since the last look. Look often while requests are in the air."""
        self._clock_s += min(ATTENTION_S, max(0.0, now_s - self._looked_at_s))
        self._looked_at_s = now_s
        news = [(trip, trip.received_bytes - trip.seen_bytes) for trip in self._trips]
        total, others = sum(count for _, count in news), len(news) - 1
        for trip, count in news:
            if others:
                trip.lag_bytes = max(0.0, trip.lag_bytes + (total - count) / others - count)
            if count:
                self._moved(trip, count)

    def _moved(self, trip: Trip, count: int) -> None:
        if not trip.seen_bytes:
            trip.lag_bytes = 0.0
            assert trip.first_byte_s is not None
            self._first_byte.add(trip.first_byte_s)
        trip.seen_bytes += count
        trip.moved_clock_s = self._moved_clock_s = self._clock_s

    def late(self, trip: Trip, tries: int = 0) -> bool:
        """Tell whether a request is later than 99 of 100 would be, and that is not the link's fault.

        After `tries` second requests that were late as well, more patience: it may be the server.
        """
        if not self._behind_schedule(trip, MORE_PATIENT**tries):
            return False
        if len(self._trips) == 1 or trip.lag_bytes >= min(LAG_BYTES, trip.size_bytes):
            return True
        return self._clock_s - self._moved_clock_s >= max(QUIET_S, self._first_byte_limit_s)

    @property
    def _first_byte_limit_s(self) -> float:
        limit_s = self._first_byte.limit()
        return START_S if limit_s is None else limit_s

    def _behind_schedule(self, trip: Trip, times: int) -> bool:
        allowed_s = self._first_byte_limit_s
        if trip.seen_bytes:
            limit = (self._short if trip.short else self._pace).limit()
            if limit is None:
                return self.silent_s(trip) > times * START_S
            if trip.short:
                allowed_s = max(allowed_s, limit)
            else:
                allowed_s += limit * min(trip.size_bytes, trip.seen_bytes + unseen(trip.seen_bytes))
        return self._clock_s - trip.began_clock_s > times * max(FLOOR_S, allowed_s)

    def silent_s(self, trip: Trip) -> float:
        """Return how long a request has brought nothing."""
        return self._clock_s - trip.moved_clock_s

    def take(self) -> bool:
        """Take the right to one second request; False when there have been enough of them."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
