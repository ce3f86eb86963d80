from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.location import Location, file_version, same_etag


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
