import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lazyfs.core.diskhealth import (
    CALM_S,
    FAILURES_MAX,
    PAUSE_MAX_S,
    PAUSE_MIN_S,
    PROBE_S,
    DiskHealth,
    DiskState,
)

HEALTHY, DEGRADED, PROBING, BYPASS = DiskState


def bypassed():
    health = DiskHealth()
    health.failed(0.0, "full", grave=True)
    return health


def test_a_disk_is_healthy_until_it_is_not():
    health = DiskHealth()
    assert health.admit(0.0)
    health.worked(0.0)

    assert (HEALTHY, "") == (health.state(0.0), health.why)


def test_after_one_failure_it_is_still_tried_and_well_again_once_it_is_calm():
    health = DiskHealth()
    health.failed(10.0, "busy", grave=False)

    assert (DEGRADED, "busy", True) == (health.state(10.0), health.why, health.admit(10.0))
    assert DEGRADED is health.state(10.0 + CALM_S - 1)
    assert HEALTHY is health.state(10.0 + CALM_S)


def test_many_failures_in_a_short_time_are_too_many():
    health = DiskHealth()
    for second in range(FAILURES_MAX):
        assert health.admit(second)
        health.failed(second, "busy", grave=False)

    assert BYPASS is health.state(FAILURES_MAX - 1)
    assert not health.admit(FAILURES_MAX - 1)


def test_as_many_failures_over_a_long_time_are_not():
    health = DiskHealth()
    for number in range(5 * FAILURES_MAX):
        health.failed(number * CALM_S, "busy", grave=False)

    assert DEGRADED is health.state(5 * FAILURES_MAX * CALM_S - CALM_S)


def test_grave_trouble_is_enough_once():
    health = bypassed()

    assert (BYPASS, "full") == (health.state(0.0), health.why)
    assert not health.open(PAUSE_MIN_S - 0.1)
    assert not health.admit(PAUSE_MIN_S - 0.1)


def test_what_is_slow_is_degraded_and_never_left_alone():
    health = DiskHealth()
    for second in range(100):
        health.ailed(second, "slow")

    assert (DEGRADED, "slow", True) == (health.state(99.0), health.why, health.admit(99.0))


def test_after_its_pause_one_try_is_let_through_and_only_one():
    health = bypassed()

    assert health.open(PAUSE_MIN_S)
    assert health.admit(PAUSE_MIN_S)
    assert PROBING is health.state(PAUSE_MIN_S)
    assert not health.admit(PAUSE_MIN_S)

    health.worked(PAUSE_MIN_S + 1)

    assert HEALTHY is health.state(PAUSE_MIN_S + 1)
    assert health.admit(PAUSE_MIN_S + 1)


def test_a_probe_that_was_slow_ends_the_bypass_too():
    health = bypassed()
    assert health.admit(PAUSE_MIN_S)

    health.ailed(PAUSE_MIN_S, "slow")

    assert (DEGRADED, "slow") == (health.state(PAUSE_MIN_S), health.why)


def test_pauses_grow_and_have_a_bound():
    health, now, pauses = bypassed(), 0.0, []
    for _ in range(10):
        began = now
        while not health.admit(now):
            now += 1.0
        pauses.append(now - began)
        health.failed(now, "full", grave=False)
        assert BYPASS is health.state(now)

    assert [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0, 300.0] == pauses
    assert PAUSE_MAX_S == pauses[-1]


@pytest.mark.parametrize(("well_s", "pause_s"), [(10.0, 2 * PAUSE_MIN_S), (PAUSE_MAX_S, PAUSE_MIN_S)])
def test_a_pause_is_short_again_once_the_disk_was_well_for_long(well_s, pause_s):
    health = bypassed()
    assert health.admit(PAUSE_MIN_S)
    health.worked(PAUSE_MIN_S)
    now = PAUSE_MIN_S + well_s
    health.failed(now, "full", grave=True)

    assert not health.open(now + pause_s - 0.1)
    assert health.open(now + pause_s)


def test_what_began_before_the_bypass_does_not_end_it_and_does_not_prolong_it():
    health = bypassed()
    health.worked(1.0)
    health.ailed(1.0, "slow")
    health.failed(2.0, "also full", grave=True)

    assert (BYPASS, "full") == (health.state(2.0), health.why)
    assert health.open(PAUSE_MIN_S)


def test_a_probe_that_was_not_tried_leaves_the_way_to_the_next():
    health = bypassed()
    assert health.admit(PAUSE_MIN_S)
    health.withdraw(PAUSE_MIN_S)

    assert BYPASS is health.state(PAUSE_MIN_S)
    assert health.admit(PAUSE_MIN_S)


def test_withdrawing_changes_nothing_where_nothing_is_probed():
    health = DiskHealth()
    assert health.admit(0.0)
    health.withdraw(0.0)

    assert HEALTHY is health.state(0.0)


def test_a_probe_nobody_reports_on_is_given_up():
    health = bypassed()
    assert health.admit(PAUSE_MIN_S)

    assert not health.admit(PAUSE_MIN_S + PROBE_S - 0.1)
    assert BYPASS is health.state(PAUSE_MIN_S + PROBE_S)
    assert health.admit(PAUSE_MIN_S + PROBE_S)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, in whatever order: there is always a next try, in bypass never two at once."""

    def __init__(self):
        super().__init__()
        self.health, self.now = DiskHealth(), 0.0

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def admit(self):
        troubled = self.health.state(self.now) in {BYPASS, PROBING}
        opened = self.health.open(self.now)
        assert opened == self.health.admit(self.now)
        if troubled and opened:
            assert not self.health.admit(self.now)

    @rule(grave=st.booleans())
    def fail(self, grave):
        self.health.failed(self.now, "x", grave=grave)

    @rule()
    def work(self):
        self.health.worked(self.now)

    @rule()
    def ail(self):
        self.health.ailed(self.now, "x")

    @rule()
    def withdraw(self):
        self.health.withdraw(self.now)

    @invariant()
    def there_is_a_next_try(self):
        assert self.health.open(self.now + PAUSE_MAX_S + PROBE_S)
        assert self.health.open(self.now) or self.health.state(self.now) in {BYPASS, PROBING}


TestAnyHistory = AnyHistory.TestCase
