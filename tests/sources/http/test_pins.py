"""What pins a file of a web server."""

import time

import pytest

from lazyfs.errors import BadResponse, BlobChanged
from tests.faults.server import Behaviour
from tests.sources.http.site import MODIFIED, read, refused

pytestmark = pytest.mark.real


def test_a_strong_etag_is_sent_along_and_every_reply_must_carry_it(site, opened):
    site.file("/a")
    source = opened(site.url("/a"))
    (blob,) = source.list()
    assert b"weights" == read(source, blob)
    assert '"v1"' == site.asked[-1].headers["if-match"]

    site.pages["/a"] = Behaviour(without=("ETag",))
    with pytest.raises(BadResponse, match="without the ETag"):
        read(source, blob)


def test_without_an_etag_the_time_and_the_size_pin(site, opened):
    site.file("/a", how=Behaviour(without=("ETag",), headers={"Last-Modified": MODIFIED}))
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert f"modified:{MODIFIED}" == blob.version
    assert b"weights" == read(source, blob)
    for how, error in (
        (
            Behaviour(without=("ETag",), headers={"Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}),
            BlobChanged,
        ),
        (Behaviour(without=("ETag",)), BadResponse),
    ):
        site.pages["/a"] = how
        with pytest.raises(error):
            read(source, blob)
    site.file("/a", b"weights longer", Behaviour(without=("ETag",), headers={"Last-Modified": MODIFIED}))
    with pytest.raises(BlobChanged):
        read(source, blob)


def test_a_weak_etag_pins_together_with_the_time(site, opened):
    site.file("/a", ETag='W/"v1"', Last_Modified=MODIFIED)
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert b"weights" == read(source, blob)
    assert "if-match" not in site.asked[-1].headers
    site.file("/a", ETag='"v1"', Last_Modified=MODIFIED)  # as Apache says it a second later
    assert b"weights" == read(source, blob)
    site.file("/a", ETag='W/"v1"', Last_Modified="Fri, 02 Jan 2026 00:00:00 GMT")
    with pytest.raises(BlobChanged):
        read(source, blob)


def test_what_nothing_pins_is_refused(site, opened):
    site.file("/a", how=Behaviour(without=("ETag",)))

    assert "cannot be pinned" in refused(opened, site.url("/a")).cause


def test_what_has_no_length_is_refused(site, opened):
    site.file("/a", how=Behaviour(without=("Content-Length",), ignore_range=True, close=True))

    assert "how long" in refused(opened, site.url("/a")).cause


def test_a_file_written_in_this_very_second_is_asked_for_again(site, opened):
    now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    replies = [
        Behaviour(headers={"ETag": '"first"', "Last-Modified": now, "Date": now}),
        Behaviour(headers={"ETag": '"second"', "Last-Modified": now}),
    ]
    site.files["/a"] = b"weights"
    site.behave = lambda asked: replies.pop(0)

    (blob,) = opened(site.url("/a")).list()

    assert 'etag:"second"' == blob.version
