"""Whether a disk is worth trying: a state for what is asked of it (to write, or to read), by how that went.

==========  =====================================================  ========================================
state       means                                                  becomes
==========  =====================================================  ========================================
healthy     it does what it is asked
degraded    it failed or was slow a moment ago; still tried        healthy after `CALM_S` without trouble
bypass      it is not tried: full, read-only, failing, or hanging  probing, once its pause is over
probing     one try is under way                                   healthy, or bypass with a longer pause
==========  =====================================================  ========================================

Trouble that is *grave* leads to bypass at once: nothing but time, or somebody, can help. Of other failures
`FAILURES_MAX` within `CALM_S` do. What is only slow, or gave wrong bytes, never does: it is still of use.
Pauses double from `PAUSE_MIN_S` to `PAUSE_MAX_S`, and begin anew once the disk was well for that long.
"""

from collections import deque
from enum import StrEnum

CALM_S = 30.0
FAILURES_MAX = 3
PAUSE_MIN_S = 5.0
PAUSE_MAX_S = 300.0
PROBE_S = 60.0
"""A probe nobody has reported on for so long is given up."""


class DiskState(StrEnum):
    """See the module's docstring. In order: each is worse than those before it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    PROBING = "probing"
    BYPASS = "bypass"


class DiskHealth:
    """The state machine. All times are seconds of one monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self.why = ""
        """What the last trouble was."""
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)
        self._troubled_at_s = float("-inf")
        self._pause_s = 0.0
        """The length of the pause, or of the last one; 0 before the first."""
        self._bypassed = False
        self._resume_at_s = 0.0
        self._probing_until_s = float("-inf")
        self._recovered_at_s = float("-inf")

    def state(self, now_s: float) -> DiskState:
        """Return the state now."""
        if self._bypassed:
            return DiskState.PROBING if now_s < self._probing_until_s else DiskState.BYPASS
        calm = now_s - self._troubled_at_s >= CALM_S
        return DiskState.HEALTHY if calm else DiskState.DEGRADED

    def open(self, now_s: float) -> bool:
        """Tell whether a try would be admitted now; nothing is changed."""
        return not self._bypassed or now_s >= max(self._resume_at_s, self._probing_until_s)

    def admit(self, now_s: float) -> bool:
        """Tell whether to try; whoever is told so must report how it went. In bypass it is the probe."""
        if not self.open(now_s):
            return False
        if self._bypassed:
            self._probing_until_s = now_s + PROBE_S
        return True

    def withdraw(self, now_s: float) -> None:
        """Say that what was admitted was not tried after all."""
        self._probing_until_s = min(self._probing_until_s, now_s)

    def worked(self, now_s: float) -> None:
        """Say that a try went well. In bypass only a probe counts: what began before it says nothing."""
        if self.state(now_s) is DiskState.PROBING:
            self._bypassed = False
            self._recovered_at_s = now_s
            self._probing_until_s = self._troubled_at_s = float("-inf")
            self._failures.clear()

    def ailed(self, now_s: float, why: str) -> None:
        """Say that it was slow, or gave wrong bytes."""
        self.worked(now_s)
        if not self._bypassed:
            self.why = why
            self._troubled_at_s = now_s

    def failed(self, now_s: float, why: str, *, grave: bool) -> None:
        """Say that a try failed."""
        probed = self.state(now_s) is DiskState.PROBING
        if self._bypassed and not probed:
            return
        self.why = why
        self._troubled_at_s = now_s
        self._failures.append(now_s)
        many = len(self._failures) == FAILURES_MAX and now_s - self._failures[0] < CALM_S
        if grave or probed or many:
            self._bypass(now_s)

    def _bypass(self, now_s: float) -> None:
        if now_s - self._recovered_at_s >= PAUSE_MAX_S and not self._bypassed:
            self._pause_s = 0.0
        self._pause_s = min(max(PAUSE_MIN_S, 2 * self._pause_s), PAUSE_MAX_S)
        self._bypassed = True
        self._resume_at_s = now_s + self._pause_s
        self._probing_until_s = float("-inf")
