import pytest

from lazyfs.core.ratelimit import retry_after_s, wait_s

NOW_S = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("120", 120.0), ("", None), ("soon", None), ("-3", None), ("9" * 50, 999_999_999.0)],
)
def test_retry_after_in_seconds(text, seconds):
    assert seconds == retry_after_s(text, NOW_S)


def test_retry_after_as_a_date_is_the_time_until_then():
    assert 100.0 == retry_after_s("Tue, 14 Nov 2023 22:15:00 GMT", NOW_S)
    assert 0.0 == retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", NOW_S)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit": '"resolvers";r=0;t=55'}, 56.0),
        ({"ratelimit": '"api"; r=0; t=0', "Retry-After": "9"}, 1.0),
        # There is something left: that is not why.
        ({"RateLimit": '"api";r=12;t=55', "Retry-After": "9"}, 9.0),
        ({"RateLimit": '"api";r=12;t=55'}, None),
        ({"RateLimit": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_spent_rate_limit_is_waited_for_a_second_longer_than_it_says(headers, seconds):
    assert seconds == wait_s(headers, NOW_S)
