import pytest

from lazyfs.telemetry.status import RateMeter, bytes_text, duration_text, from_json


def test_the_rate_is_over_the_last_seconds():
    rate = RateMeter(window_s=5.0)
    assert 0.0 == rate.sample(0.0, 0)

    for second in range(1, 11):
        rate.sample(second, 100 * second)

    assert 100.0 == rate.sample(11.0, 1100)
    assert 0.0 == [rate.sample(11.0 + second, 1100) for second in range(1, 8)][-1]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1.5e6, "1.5 MB"),
        (140e9, "140.0 GB"),
        (2.5e12, "2.50 TB"),
    ],
)
def test_bytes_for_people(count, text):
    assert text == bytes_text(count)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (12.3, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_for_people(seconds, text):
    assert text == duration_text(seconds)


@pytest.mark.parametrize("text", ["[]", "x", "", b"\xff"])
def test_what_is_no_status_is_refused(text):
    with pytest.raises(ValueError):
        from_json(text)
