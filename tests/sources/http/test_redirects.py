"""Redirects, to storage and elsewhere."""

import time
from urllib.parse import urlsplit

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.errors import BlobChanged, LocationRefused
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from tests.faults.server import Behaviour
from tests.sources.http.site import read

pytestmark = pytest.mark.real


def test_a_signed_url_is_asked_for_once_a_file_and_without_credentials(site, storage, opened, monkeypatch):
    monkeypatch.setenv("LAZYFS_HTTP_TOKEN", "t0ken")
    expires = int(time.time()) + 3600
    signed = f"/blob?Expires={expires}&Signature=x"
    storage.files["/blob"] = b"weights"
    # Signed for GET only, as S3 does it.
    storage.behave = lambda asked: Behaviour(status=403 if asked.method == "HEAD" else None)
    site.pages["/a"] = Behaviour(status=302, headers={"Location": storage.url(signed, host="localhost")})
    source = opened(site.url("/a"))
    (blob,) = source.list()
    asked_before = len(site.asked)
    location = source.locate(blob)

    assert "localhost" == urlsplit(location.url).hostname
    assert expires == location.expires_at_s
    assert site.url("/a") == blob.origin
    lane, into = Lane(), memoryview(bytearray(3))
    for start in range(4):
        lane.fetch(location, Wanted(ByteRange(start, start + 3), 7), into, lambda _: None)
    lane.close()
    assert 1 == len(site.asked) - asked_before
    assert not any("authorization" in asked.headers for asked in storage.asked)
    assert "Signature" not in repr(location)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_target_that_has_expired_is_located_again(site, storage, opened, status):
    storage.file("/old")
    storage.file("/new")
    site.pages["/a"] = Behaviour(status=307, headers={"Location": storage.url("/old")})
    source = opened(site.url("/a"))
    (blob,) = source.list()
    location = source.locate(blob)
    storage.pages["/old"] = Behaviour(status=status)
    site.pages["/a"] = Behaviour(status=307, headers={"Location": storage.url("/new")})
    lane, into = Lane(), memoryview(bytearray(7))
    with pytest.raises(LocationRefused):
        lane.fetch(location, Wanted(ByteRange(0, 7), 7), into, lambda _: None)
    lane.close()

    assert b"weights" == read(source, blob)


def test_a_file_that_is_gone_behind_its_redirect_is_changed(site, storage, opened):
    storage.file("/x")
    site.pages["/a"] = Behaviour(status=302, headers={"Location": storage.url("/x")})
    source = opened(site.url("/a"))
    (blob,) = source.list()
    site.pages["/a"] = Behaviour(status=404)

    with pytest.raises(BlobChanged):
        source.locate(blob)


def test_a_redirect_to_a_directory_of_the_same_server_is_where_it_is(site, opened):
    site.pages["/latest"] = Behaviour(status=302, headers={"Location": "/v3/"})
    site.index("/v3/", "a")
    site.file("/v3/a")

    (blob,) = opened(site.url("/latest")).list()

    assert site.url("/v3/a") == blob.origin


@pytest.mark.parametrize("ranges", [True, False])
def test_what_another_process_has_listed_can_be_located(site, opened, ranges):
    how = Behaviour() if ranges else Behaviour(without=("Accept-Ranges",), ignore_range=True)
    site.file("/a", how=how)
    (blob,) = opened(site.url("/a")).list()
    found = opened(site.url("/a"))

    assert ranges == found.locate(blob).ranges
    assert b"weigh" == read(found, blob, 0, 5)
