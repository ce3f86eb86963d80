from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.breaker import (
    OBJECTS,
    PAUSE_MAX_S,
    PAUSE_S,
    PAUSE_WAITED_MAX_S,
    RUN,
    RUN_S,
    TRY_S,
    Breaker,
)


def down_at(now_s, about=None):
    """A breaker of a host that went down just now."""
    breaker = Breaker()
    for _ in range(RUN - 1):
        breaker.failed(now_s - RUN_S, about)
    breaker.failed(now_s, about)
    return breaker


def test_no_connection_for_a_while_is_a_host_that_is_down():
    breaker = Breaker()
    for number in range(RUN - 1):
        breaker.failed(number * RUN_S, None)
        assert not breaker.down
        assert breaker.admit(number * RUN_S, waited=False)
    breaker.failed(RUN * RUN_S, None)

    assert breaker.down


def test_many_failures_in_a_moment_may_be_one():
    breaker = Breaker()
    for _ in range(10 * RUN):
        breaker.failed(1.0, None)
    assert not breaker.down
    breaker.failed(1.0 + RUN_S, None)
    assert breaker.down


def test_one_bad_object_is_not_the_hosts_fault():
    breaker = Breaker()
    for number in range(100):
        breaker.failed(float(number), "model.safetensors")
    assert not breaker.down


def test_several_objects_are():
    breaker = Breaker()
    for number in range(RUN - 1 + OBJECTS):
        breaker.failed(float(number), number % OBJECTS)
    assert breaker.down


def test_a_host_that_is_down_is_tried_by_one_at_a_time():
    breaker = down_at(10.0)
    assert not breaker.admit(10.0 + PAUSE_S / 2, waited=True)
    assert not breaker.wait_s(10.01 + PAUSE_S, waited=True)
    assert breaker.admit(10.01 + PAUSE_S, waited=True)
    assert breaker.wait_s(10.01 + 2 * PAUSE_S, waited=True)
    assert not breaker.admit(10.01 + 2 * PAUSE_S, waited=True)


@pytest.mark.parametrize(("waited", "most_s"), [(True, PAUSE_WAITED_MAX_S), (False, PAUSE_MAX_S)])
def test_pauses_grow_to_a_bound_that_is_lower_while_a_reader_waits(waited, most_s):
    breaker, now_s, pauses = down_at(10.0), 10.0, []
    for _ in range(12):
        began_s = now_s
        while not breaker.admit(now_s, waited=waited):
            now_s += 0.01
        pauses.append(now_s - began_s)
        breaker.failed(now_s, None)

    assert all(after >= before - 0.02 for before, after in pairwise(pauses))
    assert PAUSE_S == pytest.approx(pauses[0], abs=0.03)
    assert most_s == pytest.approx(pauses[-1], abs=0.03)


def test_a_try_without_an_answer_does_not_keep_others_for_ever():
    breaker = down_at(10.0)
    assert breaker.admit(11.0, waited=True)
    assert not breaker.admit(11.0 + TRY_S - 0.1, waited=True)
    assert breaker.admit(11.0 + TRY_S, waited=True)


def test_failures_of_what_was_under_way_change_nothing():
    breaker = down_at(10.0)
    for _ in range(20):
        breaker.failed(10.01, None)
    assert not breaker.wait_s(10.01 + PAUSE_S, waited=False)


@given(st.lists(st.tuples(st.sampled_from(["fail", "ask"]), st.floats(0, 3), st.booleans())))
def test_whatever_happens_a_waiting_reader_may_try_soon(steps):
    breaker, now_s = down_at(10.0), 10.0
    for what, after_s, waited in steps:
        now_s += after_s
        if what == "fail":
            breaker.failed(now_s, None)
        else:
            breaker.admit(now_s, waited=waited)

    assert breaker.down
    assert not breaker.wait_s(now_s + TRY_S + 0.01, waited=True)


@given(st.lists(st.booleans(), max_size=200))
def test_between_two_tries_there_is_a_pause(asks):
    breaker, now_s, tries = down_at(10.0), 10.0, []
    for fails in asks:
        now_s += 0.05
        if fails:
            breaker.failed(now_s, None)
        elif breaker.admit(now_s, waited=True):
            tries.append(now_s)

    assert all(after - before >= PAUSE_S - 1e-9 for before, after in pairwise(tries))
