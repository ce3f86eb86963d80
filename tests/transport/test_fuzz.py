"""Heads of replies as no server should send them, over a real socket.

The property: whatever the head, `fetch` gives exactly the bytes that were asked for, or raises one of our
errors; what it said to have landed is right even then; and it never waits longer than its patience. Bodies
hold the bytes of the range the head was made for, so a lie about bytes is not among these: nobody could tell.
"""

import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import LazyfsError
from lazyfs.transport.connection import Patience
from lazyfs.transport.ranges import RangeReader, Wanted
from tests.faults.pattern import Pattern
from tests.faults.server import ETAG, Behaviour, FaultServer

CONTENT = Pattern(3, 9000)
START, STOP = 1000, 6000
PATIENCE = Patience(connect_s=1.0, first_byte_s=0.3, stall_s=0.3)
WAIT_S_MAX = 2.0


@pytest.fixture(scope="module")
def server():
    found = FaultServer(CONTENT)
    yield found
    found.close()


def check(server, raw):
    """Fetch from a server that sends just this, and hold it to the property."""
    server.script = [Behaviour(raw=raw)] * 7  # redirects too
    reader, into, landed = RangeReader(PATIENCE), memoryview(bytearray(STOP - START)), [0]
    location = Location(server.url(), {"If-Match": ETAG}, version=ETAG)
    try:
        reader.fetch(location, Wanted(ByteRange(START, STOP), len(CONTENT)), into, landed.append)
        assert CONTENT.matches(START, into)
    except LazyfsError:
        assert CONTENT.matches(START, into[: landed[-1]])
    finally:
        reader.close()


def chunked(body, size=777):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


STATUS_LINES = st.sampled_from(
    [
        "HTTP/1.1 206 Partial Content", "HTTP/1.1 200 OK", "HTTP/1.0 206 x", "HTTP/1.1 206",
        "HTTP/1.1 0206 x", "HTTP/1.1 +206 x", "HTTP/1.1 100 Continue", "HTTP/1.1 103 Hints",
        "HTTP/1.1 204 x", "HTTP/1.1 302 x", "HTTP/1.1 304 x", "HTTP/1.1 503 x", "HTTP/1.1 999 x",
        "HTTP/1.1 2062 x", "HTTP/1.1 -1 x", "HTTP/9.9 206 x", "HTTP/2 206", "ICY 206 x", "206", "",
    ]
)  # fmt: skip
ENCODINGS = st.sampled_from(
    [
        "chunked",
        "Chunked",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "identity, chunked",
        "chunked;q=1",
        "",
    ]
)
RANGES = ["bytes {s}-{e}/{n}"] * 4 + [
    "bytes {s}-{e}/*", "bytes {s}-{e}", "bytes={s}-{e}/{n}", "bytes {s} - {e}/{n}", "BYTES {s}-{e}/{n}",
    "bytes {s}-{e}/{n}, bytes {s}-{e}/{n}", "bytes */{n}", "bytes +{s}-{e}/{n}", "bytes {s}-{e}/+{n}",
    "bytes {s}-{e}/" + "9" * 5000, "bytes \u0663-\u0664/\u0665", "none", "",
]  # fmt: skip
LENGTHS = ["{l}"] * 4 + [
    "{l}, {l}", "+{l}", "{l}_0", "-{l}", "0x10", "{l}\r\nContent-Length: 7", " {l} ", "9" * 5000, "0",
    "x", "",
]  # fmt: skip

PLACES = [
    "", "/blob", "//", "http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http://127.0.0.1:x/",
    "/é", "/a b",
    f"http://{'a' * 70}/", "http://ü.invalid/", "http://a@127.0.0.1:1/", "\x01", "http://127.0.0.1:1/",
]  # fmt: skip


@st.composite
def replies(draw):
    """Return a reply whose parts are each right or somehow wrong."""
    start = draw(st.sampled_from([START, START, START, START - 1, START + 1, 0]))
    stop = draw(st.sampled_from([STOP, STOP, STOP, STOP - 1, STOP + 1, len(CONTENT)]))
    status = draw(STATUS_LINES)
    body = CONTENT[:] if " 200" in status else CONTENT[start:stop]
    values = {"s": start, "e": stop - 1, "n": len(CONTENT), "l": len(body)}
    headers = [
        ("Content-Range", draw(st.sampled_from(RANGES)).format(**values)),
        ("Content-Length", draw(st.sampled_from(LENGTHS)).format(**values)),
        ("Transfer-Encoding", draw(ENCODINGS)),
        ("ETag", draw(st.sampled_from([ETAG, "v1", 'W/"v1"', "", '"']))),
        ("Content-Encoding", draw(st.sampled_from(["identity", "gzip", ""]))),
        ("Location", draw(st.sampled_from(PLACES))),
        ("Retry-After", draw(st.sampled_from(["", "1", "-1", "9" * 5000, "Wed, 99 Foo 2015 07:28:00 GMT"]))),
    ]
    kept = draw(st.sets(st.sampled_from([name for name, _ in headers])))
    lines = [f"{name}: {value}" for name, value in draw(st.permutations(headers)) if name in kept]
    head = "\r\n".join([status, *lines]).encode() + b"\r\n\r\n"
    if "Transfer-Encoding" in kept and draw(st.booleans()):
        body = chunked(body)
    return head + body[: draw(st.sampled_from([len(body)] * 4 + [len(body) // 2, 0]))]


@given(raw=replies())
@example(
    raw=f"HTTP/1.1 206 x\r\nContent-Range: bytes {START}-{STOP - 1}/*\r\n"
    "Transfer-Encoding: gzip, chunked\r\n\r\n".encode() + chunked(CONTENT[START:STOP])
)  # fmt: skip
@example(
    raw=b"HTTP/1.1 200 x\r\nTransfer-Encoding: identity, chunked\r\n\r\n" + chunked(CONTENT[:])
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_of_a_head_in_any_combination(server, raw):
    check(server, raw)


GOOD_HEADS = [
    f"HTTP/1.1 206 OK\r\nETag: {ETAG}\r\nContent-Range: bytes {START}-{STOP - 1}/{len(CONTENT)}\r\n"
    f"{framing}\r\n\r\n"
    for framing in (f"Content-Length: {STOP - START}", "Transfer-Encoding: chunked")
]


@given(
    head=st.sampled_from(GOOD_HEADS),
    edits=st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), min_size=1, max_size=4),
    insert=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_good_head_with_some_bytes_changed(server, head, edits, insert, seed):
    body = CONTENT[START:STOP]
    content = bytearray(head.encode())
    for position, text in edits:
        place = position % len(content)
        content[place : place if insert else place + len(text)] = text
    raw = bytes(content) + (
        chunked(body, random.Random(seed).randint(1, 6000)) if "chunked" in head else body
    )
    check(server, raw)


@given(raw=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_at_all(server, raw):
    check(server, raw)
