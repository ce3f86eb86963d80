from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.restarts import BURST, CAP_S, FIRST_S, PACE_S, Restarts


def test_one_that_has_served_is_followed_at_once():
    assert [0.0] * 3 == [Restarts().died(float(now), served=True) for now in range(3)]


def test_one_that_could_not_begin_is_followed_later_each_time_within_a_bound():
    restarts = Restarts()

    delays = [restarts.died(now * 100.0, served=False) for now in range(12)]

    assert [FIRST_S, 2 * FIRST_S, 4 * FIRST_S] == delays[:3]
    assert [CAP_S] * 4 == delays[-4:]


def test_serving_forgives_what_was_before():
    restarts = Restarts()
    for now in range(5):
        restarts.died(float(now), served=False)

    assert 0.0 == restarts.died(6.0, served=True)
    assert FIRST_S == restarts.died(7.0, served=False)
    assert 7 == restarts.count


def test_a_burst_of_deaths_ends_in_a_pace():
    restarts = Restarts()

    delays = [restarts.died(0.0, served=True) for _ in range(BURST + 3)]

    assert [0.0] * BURST == delays[:BURST]
    assert [PACE_S, 2 * PACE_S, 3 * PACE_S] == delays[BURST:]


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=200))
def test_no_delay_is_negative_and_a_pace_is_kept(deaths):
    restarts, now_s = Restarts(), 0.0

    for began, (gap_s, served) in enumerate(deaths, 1):
        delay_s = restarts.died(now_s, served=served)
        assert delay_s >= 0
        now_s += delay_s + gap_s
        assert began <= BURST + now_s / PACE_S + 1
