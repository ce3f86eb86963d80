import pytest

from lazyfs.core.webpin import WebPin, codings, just_written, pin, read

MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "found", "conditions"),
    [
        ({"ETag": '"a"', "Last-Modified": MODIFIED}, WebPin('"a"', None), {"If-Match": '"a"'}),
        ({"ETag": 'W/"a"', "Last-Modified": MODIFIED}, WebPin('W/"a"', MODIFIED), {}),
        ({"ETag": 'W/"a"'}, WebPin('W/"a"', None), {}),
        ({"Last-Modified": MODIFIED}, WebPin(None, MODIFIED), {}),
        ({"ETag": "", "Last-Modified": MODIFIED}, WebPin(None, MODIFIED), {}),
    ],
)
def test_what_pins_a_file_and_comes_back_from_its_version(headers, found, conditions):
    assert found == pin(headers)
    assert found == read(found.version)
    assert conditions == found.conditions


@pytest.mark.parametrize("headers", [{}, {"ETag": "", "Last-Modified": ""}, {"Content-Length": "1"}])
def test_nothing_pins_a_file_without_either(headers):
    assert pin(headers) is None


@pytest.mark.parametrize(
    ("date", "modified", "fresh"),
    [
        (MODIFIED, MODIFIED, True),
        ("Thu, 01 Jan 2026 00:00:01 GMT", MODIFIED, False),
        (MODIFIED, "yesterday", False),
        ("now", "now", False),
        ("", "", False),
    ],
)
def test_a_file_of_this_very_second_is_just_written(date, modified, fresh):
    assert fresh == just_written({"Date": date, "Last-Modified": modified})


def test_only_a_name_that_says_so_may_come_with_an_encoding():
    assert "gzip" in codings("model.tar.gz")
    assert not codings("model.safetensors")
    assert not codings("LICENSE")
