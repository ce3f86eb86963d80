import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    BlobChanged,
    LazyfsError,
    LocationLapsed,
    LocationRefused,
    SourceThrottled,
    SourceUnavailable,
    SourceUnreachable,
    SourceUntrusted,
)
from lazyfs.transport.connection import Patience
from lazyfs.transport.ranges import RangeReader, Wanted
from tests.faults.server import ETAG, Behaviour, FaultServer

SIZE = 100_000
QUICK = Patience(connect_s=1.0, first_byte_s=0.3, stall_s=0.3)


@pytest.fixture
def reader():
    found = RangeReader(QUICK)
    yield found
    found.close()


def fetch(reader, server, start=1000, stop=90_000, etag=ETAG, url=None):
    """Return what landed, the landings reported, and the receipt."""
    into = memoryview(bytearray(stop - start))
    landings: list[int] = []
    location = Location(url or server.url(), {"If-Match": etag} if etag else {}, version=etag)
    receipt = reader.fetch(location, Wanted(ByteRange(start, stop), SIZE), into, landings.append)
    return bytes(into), landings, receipt


def test_a_range_is_exactly_its_bytes_and_asks_for_exactly_them(reader, server):
    content, landings, receipt = fetch(reader, server)

    assert server.content[1000:90_000] == content
    assert [(1000, 90_000)] == server.spans()
    assert {"if-match": ETAG, "accept-encoding": "identity"}.items() <= server.asked[0].headers.items()
    assert 89_000 == landings[-1]
    assert sorted(landings) == landings
    assert not receipt.whole_object


def test_one_connection_serves_one_range_after_another(reader, server):
    for start in range(0, 90_000, 10_000):
        assert server.content[start : start + 10_000] == fetch(reader, server, start, start + 10_000)[0]

    assert 1 == server.connection_count


def test_a_kept_connection_that_the_server_has_closed_is_replaced_without_an_error(reader, server):
    fetch(reader, server)
    server.drop_connections()
    time.sleep(0.05)

    assert server.content[:10] == fetch(reader, server, 0, 10)[0]
    assert 2 == server.connection_count


def test_connection_close_is_honoured(reader, server):
    server.script = [Behaviour(close=True), Behaviour(close=True)]

    assert server.content[:10] == fetch(reader, server, 0, 10)[0]
    assert server.content[:90_000] == fetch(reader, server, 0, 90_000)[0]
    assert 2 == server.connection_count


def test_the_whole_object_instead_of_the_range_is_never_taken_for_the_range(reader, server):
    server.script = [Behaviour(ignore_range=True)]

    content, _, receipt = fetch(reader, server)

    assert server.content[1000:90_000] == content
    assert receipt.whole_object
    assert server.content[:10] == fetch(reader, server, 0, 10)[0]


@given(
    start=st.integers(0, SIZE - 1), length=st.integers(1, SIZE), chunked=st.booleans(), whole=st.booleans()
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_is_right_however_it_comes(reader, server, start, length, chunked, whole):
    server.script = [Behaviour(ignore_range=whole, chunked=chunked)]
    stop = min(start + length, SIZE)

    assert server.content[start:stop] == fetch(reader, server, start, stop)[0]


def test_a_chunked_reply_is_decoded(reader, server):
    server.script = [Behaviour(chunked=True)]

    assert server.content[1000:90_000] == fetch(reader, server)[0]
    assert server.content[:10] == fetch(reader, server, 0, 10)[0]
    assert 1 == server.connection_count


def test_a_reply_without_a_length_ends_with_its_connection(reader, server):
    server.script = [Behaviour(without=("Content-Length",), close=True)]

    assert server.content[1000:90_000] == fetch(reader, server)[0]


def test_a_reply_without_an_etag_is_accepted_when_if_match_was_sent(reader, server):
    server.script = [Behaviour(without=("ETag",))]

    assert server.content[1000:90_000] == fetch(reader, server)[0]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (Behaviour(status=404), BlobChanged),
        (Behaviour(status=410), BlobChanged),
        (Behaviour(status=412), BlobChanged),
        (Behaviour(status=416), BlobChanged),
        (Behaviour(headers={"ETag": '"v2"'}), BlobChanged),
        (Behaviour(headers={"Content-Range": "bytes 1000-89999/99999"}), BlobChanged),
        (Behaviour(ignore_range=True, body=b"x" * 99_999), BlobChanged),
        # A proxy's page says nothing of the object.
        (Behaviour(ignore_range=True, body=b"<html>", without=("ETag",)), BadResponse),
        (Behaviour(status=400), LocationRefused),
        (Behaviour(status=401), LocationRefused),
        (Behaviour(status=403), LocationRefused),
        (Behaviour(status=403, body=b"<Error><Code>RequestTimeTooSkewed</Code></Error>"), LocationLapsed),
        (Behaviour(status=400, body=b"<Error><Code>ExpiredToken</Code></Error>"), LocationLapsed),
        (Behaviour(status=400, body=b"<Error><Code>SlowDown</Code></Error>"), SourceThrottled),
        (Behaviour(status=403, body=b"<Error><Code>RequestTimeout</Code></Error>"), SourceUnavailable),
        (Behaviour(status=403, body=b"<Error><Code>InvalidAccessKeyId</Code></Error>"), LocationRefused),
        (Behaviour(status=301, body=b"<Error><Code>PermanentRedirect</Code></Error>"), LocationRefused),
        (Behaviour(status=405), AccessDenied),
        (Behaviour(status=429), SourceThrottled),
        (Behaviour(status=503), SourceThrottled),
        (Behaviour(status=408), SourceUnavailable),
        (Behaviour(status=500), SourceUnavailable),
        (Behaviour(status=502), SourceUnavailable),
        (Behaviour(status=504), SourceUnavailable),
        (Behaviour(without=("Content-Range",)), BadResponse),
        (Behaviour(headers={"Content-Range": "bytes 0-88999/100000"}), BadResponse),
        (Behaviour(headers={"Content-Range": "bytes */100000"}), BadResponse),
        (
            Behaviour(
                headers={"Content-Type": "multipart/byteranges; boundary=x"}, without=("Content-Range",)
            ),
            BadResponse,
        ),
        (Behaviour(body=b"x" * 89_001), BadResponse),
        (Behaviour(body=b"x" * 88_999), BadResponse),
        (Behaviour(cut_after=0), BadResponse),
        (Behaviour(cut_after=50_000), BadResponse),
        (Behaviour(ignore_range=True, cut_after=500), BadResponse),
        (Behaviour(without=("Content-Length",), extra=b"x", close=True), BadResponse),
        (Behaviour(ignore_range=True, headers={"Content-Encoding": "gzip"}), LazyfsError),
        (Behaviour(reset_after=10_000), SourceUnavailable),
        (Behaviour(stall_after=0), SourceUnavailable),
        (Behaviour(stall_after=50_000), SourceUnavailable),
        (Behaviour(trickle_s=0.05), SourceUnavailable),
        (Behaviour(delay_s=0.6), SourceUnavailable),
        (Behaviour(head_trickle_s=0.02), SourceUnavailable),
        (Behaviour(raw=b"garbage\r\n\r\n"), BadResponse),
        (Behaviour(raw=b"HTTP/1.1 206 x\r\n" + b"a: b\r\n" * 1000 + b"\r\n"), BadResponse),
        (Behaviour(raw=b"HTTP/1.1 206 x\r\na: " + b"b" * 100_000 + b"\r\n\r\n"), BadResponse),
        (Behaviour(raw=b""), SourceUnavailable),
    ],
)
def test_a_reply_that_is_not_the_range_raises_and_the_next_is_right(reader, server, how, error):
    server.script = [how]

    with pytest.raises(LazyfsError) as raised:
        fetch(reader, server)

    assert error is type(raised.value)
    assert server.content[1000:90_000] == fetch(reader, server)[0]


def test_what_had_landed_before_an_error_is_right(reader, server):
    server.script = [Behaviour(cut_after=50_000)]
    into = memoryview(bytearray(SIZE))
    landings = [0]
    with pytest.raises(BadResponse):
        reader.fetch(Location(server.url()), Wanted(ByteRange(0, SIZE), SIZE), into, landings.append)

    assert landings[-1] > 0
    assert server.content[: landings[-1]] == bytes(into[: landings[-1]])


def test_an_error_names_host_and_code_and_never_the_query(reader, server):
    server.script = [Behaviour(status=503, body=b"<Error><Code>SlowDown</Code></Error>")]

    with pytest.raises(SourceThrottled) as raised:
        fetch(reader, server, url=server.url("/blob?X-Amz-Signature=secret"))

    assert f"127.0.0.1:{server.port} answered 503 (SlowDown)" == raised.value.cause
    assert "--connections" in raised.value.cure


@pytest.mark.parametrize("length", ["-5", "abc", "89000, 89000", "1" * 30])
def test_a_malformed_length_is_no_length(reader, server, length):
    server.script = [Behaviour(headers={"Content-Length": length}, close=True)]

    with pytest.raises((BadResponse, SourceUnavailable)):
        fetch(reader, server)
        raise BadResponse("a duplicate length may be read as what it says")


def test_throttling_says_for_how_long(reader, server):
    server.script = [Behaviour(status=503, headers={"Retry-After": "7"})]

    with pytest.raises(SourceThrottled) as raised:
        fetch(reader, server)

    assert 7.0 == raised.value.retry_after_s


def test_a_rate_limit_says_for_how_long(reader, server):
    server.script = [Behaviour(status=429, headers={"RateLimit": '"resolvers";r=0;t=4'})]

    with pytest.raises(SourceThrottled) as raised:
        fetch(reader, server)

    assert 5.0 == raised.value.retry_after_s


def test_a_redirect_is_followed_without_taking_credentials_to_another_host(reader, server):
    storage = FaultServer(server.content)
    try:
        server.script = [Behaviour(status=302, headers={"Location": storage.url("/signed")})]
        into = memoryview(bytearray(10))
        location = Location(server.url(), {"Authorization": "Bearer secret", "If-Match": ETAG})
        reader.fetch(location, Wanted(ByteRange(5, 15), SIZE), into, lambda _count: None)

        assert server.content[5:15] == bytes(into)
        assert "Bearer secret" == server.asked[0].headers["authorization"]
        assert "authorization" not in storage.asked[0].headers
        assert ("/signed", (5, 15), ETAG) == (
            storage.asked[0].path,
            storage.asked[0].span,
            storage.asked[0].headers["if-match"],
        )
    finally:
        storage.close()


def test_a_redirect_on_the_same_host_keeps_credentials_and_connection(reader, server):
    server.script = [Behaviour(status=307, headers={"Location": "/there?a=b"})]
    location = Location(server.url(), {"Authorization": "Bearer secret"})

    reader.fetch(location, Wanted(ByteRange(0, 5), SIZE), memoryview(bytearray(5)), lambda _count: None)

    assert "Bearer secret" == server.asked[1].headers["authorization"]
    assert "/there?a=b" == server.asked[1].path
    assert 1 == server.connection_count


def test_redirects_in_a_circle_and_to_nowhere_end(reader, server):
    server.behave = lambda _asked: Behaviour(status=302, headers={"Location": "/blob"})
    with pytest.raises(BadResponse, match="circle"):
        fetch(reader, server)

    server.behave = lambda _asked: Behaviour(status=302, headers={"Location": "ftp://x/y"})
    with pytest.raises(BadResponse, match="not a URL"):
        fetch(reader, server)


def test_nobody_listening_is_unreachable(reader, server):
    server.close()

    with pytest.raises(SourceUnreachable, match="refused"):
        fetch(reader, server)


@pytest.mark.real
def test_a_name_that_does_not_resolve_is_unreachable(reader):
    with pytest.raises(SourceUnreachable, match="cannot resolve nowhere.invalid"):
        fetch(reader, None, url="http://nowhere.invalid/blob")


def test_an_odd_target_is_sent_as_it_is(reader, server):
    fetch(reader, server, url=server.url("/a%20b%2Bc%25%23/%C3%BC?x=%2F&y=1"))

    assert "/a%20b%2Bc%25%23/%C3%BC?x=%2F&y=1" == server.asked[0].path


def test_untrusted_is_permanent_and_unavailable_is_not():
    assert not SourceUntrusted("x").retryable
    assert SourceUnavailable("x").retryable
    assert BadResponse("x").retryable
    assert not BlobChanged("x").retryable
