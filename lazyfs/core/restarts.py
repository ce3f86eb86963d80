"""How soon a dead worker is followed by another one. Pure; times are of one monotonic clock.

A worker that has served is followed at once: its readers wait. Only one that dies again and again waits for
its turn, one a second. A worker that could not even begin waits twice as long after each: something is wrong
with its surroundings, and hammering does not mend it.
"""

from dataclasses import dataclass

BURST = 60
"""So many may follow at once before the pace counts."""
PACE_S = 1.0
FIRST_S, CAP_S = 0.1, 5.0


@dataclass(slots=True)
class Restarts:
    """Counts deaths. `count` is of all of them."""

    count: int = 0
    _failures: int = 0
    _allowance: float = BURST
    _counted_at_s: float = float("-inf")

    def died(self, now_s: float, *, served: bool) -> float:
        """Take note of a death; return in how many seconds the next worker should start."""
        self.count += 1
        self._allowance = min(BURST, self._allowance + (now_s - self._counted_at_s) / PACE_S) - 1
        self._counted_at_s = now_s
        self._failures = 0 if served else self._failures + 1
        pace_s = max(0.0, -self._allowance) * PACE_S
        if not self._failures:
            return pace_s
        return max(pace_s, min(CAP_S, FIRST_S * 2.0 ** min(self._failures - 1, 10)))
