import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.location import Location, comparable, expires_at_s, file_version, margin_s, same_etag


def test_a_location_shows_no_signature_when_printed():
    location = Location("https://host/key?X-Amz-Signature=secret", {"Authorization": "Bearer secret"}, 5.0)

    assert "secret" not in repr(location)


def test_a_location_is_fresh_until_its_margin_before_expiry():
    location = Location("u", expires_at_s=100.0)

    assert location.fresh(now_s=39.0, margin_s=60.0)
    assert not location.fresh(now_s=40.0, margin_s=60.0)
    assert Location("u").fresh(now_s=1e12, margin_s=60.0)


@given(tag=st.text(alphabet="0123456789abcdef-", min_size=1))
def test_an_etag_is_the_same_quoted_or_weak(tag):
    assert same_etag(f'"{tag}"', tag)
    assert same_etag(f'W/"{tag}"', f'"{tag}"')
    assert not same_etag(f'"{tag}"', f'"{tag}0"')


def test_a_file_version_tells_times_and_sizes_apart():
    assert 3 == len({file_version(1, 1), file_version(1, 2), file_version(2, 1)})


AT_S = 1_767_323_045.0  # 2026-01-02T03:04:05Z


@pytest.mark.parametrize(
    ("query", "at_s"),
    [
        ("X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-Signature=0", AT_S + 60),
        ("X-Goog-Date=20260102T030405Z&X-Goog-Expires=60", AT_S + 60),
        ("Expires=1767323045&Signature=x&Key-Pair-Id=K", AT_S),
        ("sv=2024&se=2026-01-02T03%3A04%3A05Z&sig=x", AT_S),
        ("se=2026-01-02T03%3A04%3A05Z", None),
        ("se=soon&sig=x", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=60", None),
        ("X-Amz-Date=20260102T030405Z&X-Amz-Expires=ever", None),
        ("Expires=never", None),
        ("sig=0", None),
        ("", None),
    ],
)
def test_a_signed_url_says_when_it_expires_if_it_does(query, at_s):
    assert at_s == expires_at_s(f"https://host/key?{query}")


def test_a_short_life_has_a_short_margin():
    assert 60.0 == margin_s(3600.0)
    assert 1.0 == margin_s(5.0)
    assert 0.0 == margin_s(-1.0)


@given(lifetime_s=st.floats(0.001, 1e6))
def test_a_location_that_was_just_given_is_fresh_however_short_its_life(lifetime_s):
    assert Location("u", expires_at_s=lifetime_s).fresh(0.0, margin_s(lifetime_s))


def test_only_etags_of_one_length_may_be_made_in_the_same_way():
    assert comparable('W/"0123"', "4567")
    assert not comparable('"0123"', '"01234567"')
