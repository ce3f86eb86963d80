"""Links are simulated: what a number of connections brings in is a function of that number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.concurrency import ENOUGH, FIRST_TRIAL_S, MOST, START, THROTTLED_HOLD_S, Concurrency

MB = 1_000_000
BLOCK = 8 << 20
TICK_S = 0.01


def play(found, rate_of, seconds, *, busy=True, spare_cpu=True, start_s=0.0, first_byte_s=0.02):
    """Let the clock run; return the limit after each tick. The first bytes come after `first_byte_s`."""
    received, limits = 0.0, []
    for tick in range(int(seconds / TICK_S)):
        now_s = start_s + tick * TICK_S
        if now_s - start_s >= first_byte_s:
            received += rate_of(found.limit) * TICK_S
        found.observe(now_s, int(received), busy=busy, spare_cpu=lambda: spare_cpu)
        limits.append(found.limit)
    return limits


def shared(total):
    return lambda _limit: total


def per_connection(rate, total=math.inf):
    return lambda limit: min(limit * rate, total)


def test_on_a_slow_link_there_are_few_and_now_and_then_a_trial():
    limits = play(Concurrency(BLOCK), shared(100 * MB), 60.0)

    assert set(limits) == {START, 2 * START}
    assert set(limits[: int(FIRST_TRIAL_S / TICK_S)]) == {START}
    assert limits.count(START) > 0.9 * len(limits)


def test_where_connections_are_fast_there_are_soon_enough():
    limits = play(Concurrency(BLOCK), per_connection(90 * MB), 0.3)

    assert limits[-1] == ENOUGH


def test_where_each_connection_is_slow_more_are_used_while_it_gets_faster():
    limits = play(Concurrency(BLOCK), per_connection(25 * MB), 3.0)

    assert limits[-1] == MOST


def test_no_more_than_bring_anything():
    limits = play(Concurrency(BLOCK), per_connection(90 * MB, total=1440 * MB), 60.0)

    assert {ENOUGH, MOST} == set(limits[20:])
    assert limits.count(ENOUGH) > 0.9 * len(limits)


def test_without_cpu_time_no_trial_is_made():
    assert set(play(Concurrency(BLOCK), per_connection(25 * MB), 5.0, spare_cpu=False)) == {START}


def test_a_rate_that_is_not_for_lack_of_connections_changes_nothing():
    assert set(play(Concurrency(BLOCK), shared(1 * MB), 5.0, busy=False)) == {START}


def test_more_than_there_is_memory_for_are_given_up():
    found = Concurrency(BLOCK)
    play(found, per_connection(25 * MB), 0.5)
    assert found.limit == 2 * START  # a trial

    limits = play(found, per_connection(25 * MB), 1.2, start_s=0.5, busy=False)

    assert limits[-1] == START


def test_a_link_that_has_become_slow_gets_fewer():
    found = Concurrency(BLOCK)
    play(found, per_connection(90 * MB, total=1440 * MB), 5.0)

    limits = play(found, shared(20 * MB), 20.0, start_s=5.0)

    assert limits[-1] in {START, 2 * START}


def test_a_link_that_has_become_fast_gets_more():
    found = Concurrency(BLOCK)
    play(found, shared(50 * MB), 5.0)

    play(found, per_connection(90 * MB), 40.0, start_s=5.0)

    assert found.limit == MOST


def test_refusals_of_one_moment_halve_once_and_hold():
    found = Concurrency(BLOCK)
    play(found, per_connection(90 * MB), 0.3)
    for _ in range(ENOUGH):
        found.throttled(1.0)

    assert found.limit == ENOUGH // 2
    limits = play(found, per_connection(90 * MB), THROTTLED_HOLD_S - 0.1, start_s=1.0)
    assert set(limits) == {ENOUGH // 2}

    found.throttled(20.0)
    assert found.limit == ENOUGH // 4


def test_after_a_refusal_it_does_not_leap_back_to_what_was_refused():
    found = Concurrency(BLOCK)
    play(found, per_connection(90 * MB), 0.3)
    found.throttled(1.0)

    limits = play(found, per_connection(90 * MB), THROTTLED_HOLD_S + 5, spare_cpu=False, start_s=1.0)

    assert set(limits) == {ENOUGH // 2}


def test_it_grows_again_after_it_was_throttled():
    found = Concurrency(BLOCK)
    found.throttled(0.0)
    assert found.limit == START // 2

    play(found, per_connection(90 * MB), 20.0)

    assert found.limit >= ENOUGH


@pytest.mark.parametrize("rate_of", [shared(10 * MB), per_connection(90 * MB)])
def test_a_number_somebody_chose_stays(rate_of):
    found = Concurrency(BLOCK, 5, 5)
    found.throttled(0.0)
    assert found.fixed

    assert set(play(found, rate_of, 30.0)) == {5}


@given(st.lists(st.tuples(st.floats(0.001, 2.0), st.integers(0, 10**9), st.booleans(), st.booleans())))
def test_whatever_happens_the_limit_stays_within_its_bounds(steps):
    found = Concurrency(BLOCK)
    now_s, received = 0.0, 0
    for wait_s, count, busy, throttled in steps:
        now_s, received = now_s + wait_s, received + count
        found.observe(now_s, received, busy=busy, spare_cpu=lambda: True)
        if throttled:
            found.throttled(now_s)
        assert 1 <= found.limit <= MOST
