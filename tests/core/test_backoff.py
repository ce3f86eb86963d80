from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.backoff import Backoff

BACKOFF = Backoff(base_s=0.1, cap_s=5.0, retry_after_max_s=30.0)
chances = st.floats(0, 1, exclude_max=True)


@given(attempt=st.integers(0, 10_000), chance=chances)
def test_a_delay_is_never_negative_and_never_over_the_cap(attempt, chance):
    assert 0 <= BACKOFF.delay_s(attempt, chance) <= 5.0


def test_the_ceiling_doubles_until_the_cap():
    almost_one = 1 - 2**-53

    ceilings = [round(BACKOFF.delay_s(attempt, almost_one), 6) for attempt in range(8)]

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == ceilings


@given(attempt=st.integers(0, 40), chance=chances, asked=st.floats(0, 1e9))
def test_what_the_server_asked_for_is_a_lower_bound_up_to_a_limit(attempt, chance, asked):
    delay = BACKOFF.delay_s(attempt, chance, asked)

    assert min(asked, 30.0) <= delay <= 35.0


def test_a_negative_retry_after_is_no_retry_after():
    assert BACKOFF.delay_s(2, 0.5) == BACKOFF.delay_s(2, 0.5, -1.0)
