"""How many connections speculation uses: as many as make it faster, and no more. Pure.

Too few leave a link idle. Too many share a slow link among blocks that all come late together: on 100 MB/s
sixteen blocks of 8 MiB take 1.3 s, and a reader that needs the first of them waits for the last. So it starts
with few, and the rate decides:

* While a block would still arrive within `BLOCK_S` if there were more of them, there are more, at once, up to
  `ENOUGH`: it costs nobody anything. From S3 that takes a tenth of a second.
* Else, and beyond that, twice as many are tried now and then, if there is CPU time left to receive with. They
  stay if the rate grows; if not, the next trial is later.
* Half, when a block takes many times as long as it should: the link has become slow.
* Half, at once and for a while, when the source says that it is asked too often. After that there are more
  only by trials.
"""

from collections.abc import Callable
from dataclasses import dataclass

START = 4
"""The fewest, too: while one waits for its first byte, the others keep the link busy."""
ENOUGH = 16
"""S3 gives a connection 85 to 90 MB/s, so this is 10 Gbit/s."""
MOST = 32
BLOCK_S = 0.25
SLOW_FACTOR = 4
GLANCE_S, LOOK_S = 0.03, 0.25
"""How long the rate is measured while it may still grow by itself, and else."""
GLANCE_BYTES = 2 << 20
"""And until each connection has brought so much: what comes first may have waited in some buffer."""
SETTLE_S, TRIAL_S_MAX = 0.1, 1.0
FIRST_TRIAL_S = 0.4
"""No trial before that, counted from the first bytes: on a slow link it would delay the first tensor."""
GROWS = 1.25
"""What more connections must make of the rate to stay."""
HOLD_S, HOLD_MAX_S = 0.5, 30.0
"""After a trial that failed; twice as long after each."""
THROTTLED_HOLD_S, MOMENT_S = 10.0, 1.0
"""Refusals within a moment are one: all requests in flight are refused together."""


@dataclass(frozen=True, slots=True)
class _Trial:
    before: int
    bytes_per_s: float
    ends_at_s: float
    """When it has failed at the latest: more connections that there is no memory for are never in use."""


class Concurrency:
    """Decides `limit`, between `fewest` and `most`. Times are of one monotonic clock, given by the caller."""

    def __init__(self, block_bytes: int, fewest: int = START, most: int = MOST) -> None:
        self.limit = fewest
        self.most = most
        self._fewest = fewest
        self._enough = min(ENOUGH, most)
        """Up to so many without a trial."""
        self._block_bytes = block_bytes
        self._trial: _Trial | None = None
        self._began: tuple[float, int] | None = None
        self._look_s = GLANCE_S
        self._quiet_until_s = float("-inf")
        self._next_trial_s: float | None = None
        self._hold_s = HOLD_S
        self._throttled_at_s = float("-inf")

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to decide."""
        return self._fewest == self.most

    def observe(
        self, now_s: float, received_bytes: int, *, busy: bool, spare_cpu: Callable[[], bool]
    ) -> None:
        """Take note of the bytes received so far; `limit` may change.

        `busy`: as many connections as allowed are in use; the rate says nothing otherwise. `spare_cpu` is
        asked whether there has been CPU time left for more.
        """
        if self._trial is not None and now_s >= self._trial.ends_at_s:
            self._judge(self._trial, 0.0, now_s, last=True)
        elif not busy or now_s < self._quiet_until_s:
            self._began = None
        elif self._began is None or received_bytes == self._began[1]:
            # Until the first bytes there is no rate: the clock starts with them.
            self._began = (now_s, received_bytes)
            if self._next_trial_s is None:
                self._next_trial_s = now_s + FIRST_TRIAL_S
        elif (elapsed_s := now_s - self._began[0]) >= GLANCE_S:
            rate = (received_bytes - self._began[1]) / elapsed_s
            if self._trial is not None:
                self._judge(self._trial, rate, now_s, last=elapsed_s >= LOOK_S)
            elif elapsed_s >= self._look_s and (
                received_bytes - self._began[1] >= self.limit * GLANCE_BYTES or elapsed_s >= LOOK_S
            ):
                self._began = None
                self._decide(rate, now_s, spare_cpu)

    def throttled(self, now_s: float) -> None:
        """Say that the source refused a request for coming too often."""
        if self.fixed or now_s < self._throttled_at_s + MOMENT_S:
            return
        self.limit = self._enough = max(1, self.limit // 2)
        self._trial, self._throttled_at_s = None, now_s
        self._quiet_until_s = now_s + THROTTLED_HOLD_S

    def _decide(self, rate: float, now_s: float, spare_cpu: Callable[[], bool]) -> None:
        spare = spare_cpu()  # asked every time: it tells about the time since it was asked last
        in_time = int(rate * BLOCK_S / self._block_bytes)
        if self.limit < min(in_time, self._enough):
            self.limit = min(in_time, self._enough)
            return
        if self._next_trial_s is not None and now_s >= self._next_trial_s:
            self._look_s = LOOK_S
        if self._look_s == LOOK_S and in_time * SLOW_FACTOR < self.limit > self._fewest:
            self.limit = max(self._fewest, self.limit // 2)
        elif (
            self.limit < self.most
            and self._next_trial_s is not None
            and now_s >= self._next_trial_s
            and spare
        ):
            self._trial = _Trial(self.limit, rate, now_s + TRIAL_S_MAX)
            self.limit = min(self.most, 2 * self.limit)
            self._quiet_until_s = now_s + SETTLE_S

    def _judge(self, trial: _Trial, rate: float, now_s: float, *, last: bool) -> None:
        """Keep what a trial has brought as soon as it shows; give it up when it does not."""
        if rate >= GROWS * trial.bytes_per_s:
            self._hold_s = HOLD_S
        elif last:
            self.limit = trial.before
            self._next_trial_s = now_s + self._hold_s
            self._hold_s = min(2 * self._hold_s, HOLD_MAX_S)
        else:
            return
        self._trial = self._began = None
