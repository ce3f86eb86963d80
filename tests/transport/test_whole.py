"""Objects whose server sends all of them whatever range is asked for: once, whole, and every byte right."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import (
    BadResponse,
    BlobChanged,
    BlobTorn,
    LocationRefused,
    SourceUnavailable,
)
from lazyfs.transport import spool, whole
from lazyfs.transport.connection import Patience
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from lazyfs.transport.whole import Wholes
from tests.faults.server import ETAG, Behaviour, FaultServer

SIZE = 3_000_000
BLOCK = 100_000
QUICK = Patience(connect_s=1.0, first_byte_s=2.0, stall_s=1.0)
WHOLE = Behaviour(ignore_range=True)

pytestmark = pytest.mark.logs("ranges_not_served")


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(SIZE))
    found.behave = lambda asked: WHOLE
    yield found
    found.close()


@pytest.fixture
def wholes(tmp_path):
    found = Wholes(tmp_path, QUICK)
    yield found
    found.close()


def located(server, path="/blob", *, ranges=False):
    return Location(server.url(path), {"If-Match": ETAG}, version=ETAG, ranges=ranges, proven=True)


def fetch(wholes, location, start, stop, landed=None):
    lane, into = Lane(QUICK, wholes), memoryview(bytearray(stop - start))
    try:
        receipt = lane.fetch(
            location, Wanted(ByteRange(start, stop), SIZE), into, landed or (lambda _count: None)
        )
    finally:
        lane.close()
    return bytes(into), receipt


def blocks():
    return [(start, start + BLOCK) for start in range(0, SIZE, BLOCK)]


def test_32_readers_of_all_blocks_in_any_order_cost_one_request(server, wholes):
    with ThreadPoolExecutor(32) as threads:
        order = blocks()[::-1] + blocks()
        found = list(threads.map(lambda block: fetch(wholes, located(server), *block)[0], order))

    assert all(server.content[start:stop] == part for (start, stop), part in zip(order, found, strict=True))
    assert [None] == server.spans()
    assert server.sent_bytes < SIZE + 1000  # and the heads


def test_a_server_that_ignores_a_range_unexpectedly_has_its_reply_taken_over(server, wholes):
    location = located(server, ranges=True)

    assert server.content[BLOCK : 2 * BLOCK] == fetch(wholes, location, BLOCK, 2 * BLOCK)[0]
    assert server.content[:BLOCK] == fetch(wholes, location, 0, BLOCK)[0]
    assert server.content[-BLOCK:] == fetch(wholes, location, SIZE - BLOCK, SIZE)[0]
    assert [(BLOCK, 2 * BLOCK)] == server.spans()


def test_one_answer_without_a_range_does_not_make_it_usual(server, wholes):
    server.behave = lambda asked: Behaviour(ignore_range=asked.span == (BLOCK, 2 * BLOCK))

    fetch(wholes, located(server, "/one", ranges=True), BLOCK, 2 * BLOCK)
    assert wholes.usual
    fetch(wholes, located(server, "/other", ranges=True), 0, BLOCK)

    assert not wholes.usual
    fetch(wholes, located(server, "/third"), 0, BLOCK)  # the source knows: it is so
    assert wholes.usual


def test_lanes_that_find_it_out_together_share_one_reply(server, wholes):
    with ThreadPoolExecutor(8) as threads:
        order = blocks()[:8]
        found = list(threads.map(lambda block: fetch(wholes, located(server, ranges=True), *block)[0], order))

    assert all(server.content[start:stop] == part for (start, stop), part in zip(order, found, strict=True))


def test_only_who_begins_a_stream_says_that_the_range_was_ignored(server, wholes):
    receipts = [fetch(wholes, located(server), *block)[1].whole_object for block in blocks()[:3]]

    assert [True, False, False] == receipts


def test_what_comes_first_lands_before_the_rest_has_come(server, wholes):
    server.behave = lambda asked: Behaviour(ignore_range=True, stall_after=2 * BLOCK)
    patient = Wholes(None, Patience(connect_s=1.0, first_byte_s=2.0, stall_s=30.0))

    assert server.content[:BLOCK] == fetch(patient, located(server), 0, BLOCK)[0]
    patient.close()


def test_a_wait_hears_that_the_object_comes_nearer(server, wholes):
    server.behave = lambda asked: Behaviour(ignore_range=True, trickle_s=0.001, trickle_bytes=BLOCK)
    heard = []
    fetch(wholes, located(server), SIZE - BLOCK, SIZE, heard.append)

    assert heard.count(0) > 1
    assert BLOCK == heard[-1]


def test_an_object_without_a_length_counts_when_it_has_ended_well(server, wholes):
    server.behave = lambda asked: Behaviour(ignore_range=True, chunked=True)

    assert server.content[BLOCK : 2 * BLOCK] == fetch(wholes, located(server), BLOCK, 2 * BLOCK)[0]


@pytest.mark.parametrize("extra", [b"x" * (SIZE + 1), b"x" * (SIZE - 1)])
def test_one_that_ends_otherwise_gives_nothing(server, wholes, extra):
    server.behave = lambda asked: Behaviour(body=extra, ignore_range=True, chunked=True)

    with pytest.raises(BadResponse):
        fetch(wholes, located(server), 0, BLOCK)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (Behaviour(status=412), BlobChanged),
        (Behaviour(headers={"ETag": '"v2"'}), BlobChanged),
        (Behaviour(body=b"x" * (SIZE - 1)), BlobChanged),
        (Behaviour(status=403), LocationRefused),
        (Behaviour(status=500), SourceUnavailable),
        (Behaviour(down_s=0.1), SourceUnavailable),
    ],
)
def test_everybody_who_waits_gets_the_error(server, wholes, how, error):
    server.behave = lambda asked: how
    with ThreadPoolExecutor(4) as threads:
        ends = [threads.submit(fetch, wholes, located(server), *block) for block in blocks()[:4]]

    assert all(isinstance(end.exception(), error) for end in ends)


@pytest.mark.parametrize("how", [{"cut_after": SIZE // 2}, {"reset_after": SIZE // 2}])
def test_after_a_break_what_had_come_stays_and_the_rest_comes_by_another_stream(server, wholes, how):
    replies = [Behaviour(ignore_range=True, **how)]
    server.behave = lambda asked: replies.pop() if replies else WHOLE
    with pytest.raises(SourceUnavailable):
        fetch(wholes, located(server), SIZE - BLOCK, SIZE)

    assert server.content[:BLOCK] == fetch(wholes, located(server), 0, BLOCK)[0]
    assert server.content[-BLOCK:] == fetch(wholes, located(server), SIZE - BLOCK, SIZE)[0]
    assert 2 == len(server.gets)


def test_a_version_that_changes_between_two_streams_is_never_mixed(server, wholes):
    replies = [Behaviour(ignore_range=True, cut_after=SIZE // 2)]
    server.behave = lambda asked: replies.pop() if replies else Behaviour(headers={"ETag": '"v2"'})
    with pytest.raises(SourceUnavailable):
        fetch(wholes, located(server), SIZE - BLOCK, SIZE)

    with pytest.raises(BlobChanged):
        fetch(wholes, located(server), SIZE - BLOCK, SIZE)


# -- written to while it comes -------------------------------------------------------------------------


def behave_as(server, get, confirmation):
    server.behave = lambda asked: get if asked.method == "GET" else confirmation


OTHER = [
    Behaviour(headers={"ETag": '"v2"'}),
    Behaviour(status=412),
    Behaviour(status=404),
    Behaviour(body=b"x" * (SIZE - 1)),
]


@pytest.mark.parametrize("now", OTHER)
def test_one_that_is_written_to_while_it_comes_is_torn_for_everybody_and_from_then_on(server, wholes, now):
    behave_as(server, WHOLE, now)
    with ThreadPoolExecutor(4) as threads:
        ends = [threads.submit(fetch, wholes, located(server), SIZE - BLOCK, SIZE) for _ in range(4)]

    assert all(isinstance(end.exception(), BlobTorn) for end in ends)
    for block in (blocks()[0], blocks()[-1]):
        with pytest.raises(BlobTorn, match="again"):
            fetch(wholes, located(server), *block)
    assert 1 == len(server.gets)


def test_the_last_byte_is_not_given_before_the_server_was_asked_once_more(server, wholes):
    sure = threading.Event()

    def behave(asked):
        if asked.method == "HEAD":
            assert sure.wait(60)
        return WHOLE

    server.behave = behave
    heard = []
    with ThreadPoolExecutor(1) as threads:
        last = threads.submit(fetch, wholes, located(server), SIZE - BLOCK, SIZE, heard.append)
        assert server.content[:BLOCK] == fetch(wholes, located(server), 0, BLOCK)[0]
        while BLOCK - 1 not in heard:
            time.sleep(0.01)
        assert not last.done()
        sure.set()
        assert server.content[-BLOCK:] == last.result(60)[0]


@pytest.mark.parametrize(
    ("how", "error"), [({"status": 500}, SourceUnavailable), ({"status": 429}, SourceUnavailable)]
)
def test_when_that_fails_only_that_is_tried_again(server, wholes, how, error):
    behave_as(server, WHOLE, Behaviour(**how))
    with pytest.raises(error):
        fetch(wholes, located(server), SIZE - BLOCK, SIZE)
    server.behave = lambda asked: WHOLE

    assert server.content[-BLOCK:] == fetch(wholes, located(server), SIZE - BLOCK, SIZE)[0]
    assert 1 == len(server.gets)


def test_where_head_is_not_allowed_the_first_byte_is_asked_for(server, wholes):
    behave_as(server, WHOLE, Behaviour(status=403))

    assert server.content[-BLOCK:] == fetch(wholes, located(server), SIZE - BLOCK, SIZE)[0]
    assert [None, (0, 1)] == server.spans()


def test_a_stream_after_a_break_that_finds_another_version_spoils_what_had_come(server, wholes):
    replies = [Behaviour(ignore_range=True, cut_after=SIZE // 2)]
    server.behave = lambda asked: replies.pop() if replies else Behaviour(headers={"ETag": '"v2"'})
    with pytest.raises(SourceUnavailable):
        fetch(wholes, located(server), SIZE - BLOCK, SIZE)
    with pytest.raises(BlobTorn):
        fetch(wholes, located(server), SIZE - BLOCK, SIZE)

    with pytest.raises(BlobTorn):
        fetch(wholes, located(server), 0, BLOCK)


def test_a_small_one_that_is_written_to_while_it_comes_never_lands_whole(server, wholes):
    behave_as(server, WHOLE, Behaviour(headers={"ETag": '"v2"'}))
    lane, heard = Lane(QUICK, wholes), []
    location = replace(located(server), proven=True)
    with pytest.raises(BlobChanged):
        lane.fetch(location, Wanted(ByteRange(0, SIZE), SIZE), memoryview(bytearray(SIZE)), heard.append)
    lane.close()

    assert SIZE - 1 == max(heard)


def test_a_lane_that_is_ended_stops_waiting_and_the_others_go_on(server, wholes):
    server.behave = lambda asked: Behaviour(ignore_range=True, trickle_s=0.02, trickle_bytes=BLOCK)
    lane, into = Lane(QUICK, wholes), memoryview(bytearray(BLOCK))
    begun = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        ended = threads.submit(
            lane.fetch,
            located(server),
            Wanted(ByteRange(SIZE - BLOCK, SIZE), SIZE),
            into,
            lambda _: begun.set(),
        )
        assert begun.wait(60)
        other = threads.submit(fetch, wholes, located(server), SIZE - BLOCK, SIZE)
        lane.end()
        assert isinstance(ended.exception(60), SourceUnavailable)
        assert server.content[-BLOCK:] == other.result(60)[0]
    lane.close()
    assert 1 == len(server.gets)


def test_so_many_objects_stream_at_once_and_the_next_one_waits(server, wholes, monkeypatch):
    going = []

    def behave(asked):
        if asked.method == "GET":
            going.append(asked.path)
        return Behaviour(ignore_range=True, trickle_s=0.001, trickle_bytes=BLOCK)

    server.behave = behave
    paths = [f"/{number}" for number in range(whole.STREAMS_MOST + 3)]
    with ThreadPoolExecutor(len(paths)) as threads:
        found = list(
            threads.map(lambda path: fetch(wholes, located(server, path), SIZE - BLOCK, SIZE)[0], paths)
        )

    assert [server.content[-BLOCK:]] * len(paths) == found
    assert sorted(paths) == sorted(going)


def test_a_file_stays_until_all_of_it_was_taken(server, wholes, monkeypatch):
    monkeypatch.setattr(spool, "SPENT_S", 0.0)
    for number in range(30):
        fetch(wholes, located(server, f"/{number}"), SIZE - BLOCK, SIZE)
    for block in blocks()[:-1]:
        fetch(wholes, located(server, "/3"), *block)

    assert 30 == len(server.gets)
    assert sorted(f"/{number}" for number in range(30) if number != 3) == sorted(
        "/" + url.rpartition("/")[2] for url in wholes.statistics().urls
    )


def test_a_file_of_which_nobody_takes_the_rest_goes_in_the_end(server, wholes, monkeypatch):
    monkeypatch.setattr(spool, "UNUSED_S", 0.0)
    fetch(wholes, located(server), 0, BLOCK)

    while wholes.statistics().urls:  # until its stream has ended
        time.sleep(0.01)


def test_without_room_to_keep_it_each_part_is_read_out_of_a_reply_of_its_own(server, tmp_path):
    nowhere = Wholes(tmp_path / "missing", QUICK)

    with pytest.raises(SourceUnavailable, match="cannot be kept meanwhile") as raised:
        fetch(nowhere, located(server), BLOCK, 2 * BLOCK)

    assert "--cache-dir" in raised.value.cure
    got, _ = fetch(nowhere, located(server), BLOCK, 2 * BLOCK)
    assert server.content[BLOCK : 2 * BLOCK] == got


def test_nothing_is_left_in_the_directory(server, wholes, tmp_path):
    fetch(wholes, located(server), 0, BLOCK)

    assert [] == list(tmp_path.iterdir())


def test_when_all_ends_streams_end_and_nobody_waits(server, wholes):
    server.behave = lambda asked: Behaviour(ignore_range=True, stall_after=BLOCK)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(
            fetch, wholes, located(server), SIZE - BLOCK, SIZE, lambda _count: begun.set()
        )
        assert begun.wait(60)
        wholes.close()
        assert isinstance(waiting.exception(60), SourceUnavailable)
    with pytest.raises(SourceUnavailable):
        fetch(wholes, located(server), 0, BLOCK)


def test_a_small_object_comes_by_an_ordinary_request(server, wholes):
    lane, into = Lane(QUICK, wholes), memoryview(bytearray(SIZE))
    lane.fetch(located(server), Wanted(ByteRange(0, SIZE), SIZE), into, lambda _count: None)
    lane.close()

    assert server.content == bytes(into)
    assert not wholes.statistics().urls


@given(
    spans=st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 400_000)), min_size=1, max_size=6),
    breaks=st.lists(st.integers(0, SIZE - 1), max_size=2),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_any_ranges_are_right_whatever_breaks(server, spans, breaks):
    breaks = list(breaks)
    server.behave = lambda asked: Behaviour(ignore_range=True, cut_after=breaks.pop()) if breaks else WHOLE
    wholes = Wholes(None, QUICK)
    try:
        for start, length in spans:
            stop = min(SIZE, start + length)
            for _ in range(4):
                try:
                    content, _receipt = fetch(wholes, located(server), start, stop)
                except SourceUnavailable:
                    continue
                assert server.content[start:stop] == content
                break
            else:
                raise AssertionError("four tries for two breaks")
    finally:
        wholes.close()
