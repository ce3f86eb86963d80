"""Servers without HEAD, or without ranges."""

import pytest

from tests.faults.server import Behaviour

pytestmark = pytest.mark.real


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_where_head_is_not_allowed_one_byte_is_asked_for(site, opened, status):
    site.files["/a"] = b"weights"
    site.behave = lambda asked: Behaviour(status=status) if asked.method == "HEAD" else Behaviour()
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert 7 == blob.size_bytes
    assert source.locate(blob).ranges


def test_whether_ranges_are_served_is_found_out_by_the_smallest_file_once(site, opened):
    site.index("/m/", "big", "small", "empty")
    for name, content in (("big", b"x" * 100), ("small", b"x"), ("empty", b"")):
        site.file(f"/m/{name}", content, Behaviour(without=("Accept-Ranges",), ignore_range=True))
    source = opened(site.url("/m/"))
    blobs = {blob.name: blob for blob in source.list()}

    assert not source.locate(blobs["big"]).ranges
    assert ["/m/small"] == [asked.path for asked in site.asked if asked.span]


def test_a_server_that_says_it_has_no_ranges_is_believed(site, opened):
    site.file("/a", Accept_Ranges="none")
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert not source.locate(blob).ranges
    assert not [asked for asked in site.asked if asked.span]
