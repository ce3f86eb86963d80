"""Questions about files: pages within bounds, and what a server says of a file before it is read."""

import gzip
from urllib.parse import urlsplit

import pytest

from lazyfs.errors import BadResponse, PageTooLong, SourceUnavailable
from lazyfs.transport.asking import Asker
from lazyfs.transport.connection import Patience
from tests.faults.server import Behaviour

QUICK = Patience(connect_s=1.0, first_byte_s=0.5, stall_s=0.5)
LIMIT = 10_000


@pytest.fixture
def asker():
    found = Asker(QUICK)
    yield found
    found.close()


def page(asker, server):
    return asker.page(urlsplit(server.url()), {}, LIMIT)


@pytest.mark.parametrize(
    "how", [Behaviour(), Behaviour(chunked=True), Behaviour(without=("Content-Length",), close=True)]
)
def test_a_page_is_all_of_its_body_however_it_comes(asker, server, how):
    server.content = server.content[:9_999]
    server.behave = lambda _asked: how

    assert server.content == page(asker, server).body
    assert server.content == page(asker, server).body


def test_pages_one_after_another_use_one_connection(asker, server):
    server.content = server.content[:9_999]
    for _ in range(3):
        page(asker, server)

    assert 1 == server.connection_count


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (Behaviour(), PageTooLong),  # the server's content is longer than the limit
        (Behaviour(chunked=True), PageTooLong),
        (Behaviour(body=gzip.compress(b"\0" * 1_000_000), headers={"Content-Encoding": "gzip"}), PageTooLong),
        (Behaviour(body=gzip.compress(b"x")[:-4], headers={"Content-Encoding": "gzip"}), BadResponse),
        (Behaviour(body=b"x", headers={"Content-Encoding": "br"}), BadResponse),
        (Behaviour(body=b"x" * 5_000, cut_after=100), BadResponse),
        (Behaviour(body=b"x" * 5_000, stall_after=100), SourceUnavailable),
        (Behaviour(status=302, headers={"Location": "/again"}), BadResponse),
        (Behaviour(status=302, headers={"Location": "file:///etc/passwd"}), BadResponse),
    ],
)
def test_a_page_that_is_too_long_or_none_is_an_error(asker, server, how, error):
    server.behave = lambda _asked: how

    with pytest.raises(error):
        page(asker, server)


def test_a_probe_of_a_file_brings_no_body(asker, server):
    answer = asker.probe(urlsplit(server.url()), {})

    assert (100_000, True) == (answer.size_bytes, answer.ranges)
    assert ["HEAD"] == [asked.method for asked in server.asked]
    assert server.sent_bytes < 1000


def test_an_empty_file_has_a_length_though_it_has_no_first_byte(asker, server):
    server.behave = lambda _asked: Behaviour(status=416, headers={"Content-Range": "bytes */0"})

    assert 0 == asker.byte(urlsplit(server.url()), {}).size_bytes


@pytest.mark.parametrize("said", [{"Content-Range": "bytes */0"}, {}])
def test_of_an_empty_file_the_server_says_more_when_no_byte_of_it_is_asked_for(asker, server, said):
    """As many servers refuse what is not there: without ETag or Last-Modified."""
    server.content = b""
    refused = Behaviour(status=416, headers=said, without=("ETag", "Last-Modified"), body=b"")
    server.behave = lambda asked: refused if "range" in asked.headers else Behaviour()

    answer = asker.byte(urlsplit(server.url()), {})

    assert (0, '"v1"') == (answer.size_bytes, answer.headers.get("ETag"))
    assert answer.ranges is not False


@pytest.mark.parametrize("total", ["bytes 0-0/x", "bytes 0-1/5", "0", ""])
def test_a_length_that_is_none_is_not_guessed(asker, server, total):
    server.behave = lambda _asked: Behaviour(status=206, body=b"x", headers={"Content-Range": total})

    assert asker.byte(urlsplit(server.url()), {}).size_bytes is None
