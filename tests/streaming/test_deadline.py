"""The deadline is a reader's: whatever it reads, whoever reads beside it, however often the kernel asks."""

import time
from contextlib import suppress

import pytest
import trio

from lazyfs.core.blob import BlockKey, ByteRange
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.repeats import REPEAT_S, TRIES
from lazyfs.errors import AccessDenied, BlockUnreadable, SourceThrottled, SourceUnavailable
from lazyfs.streaming.lanes import DEMAND_LANES
from lazyfs.streaming.waits import INHERITED_S, LOOK_S, REPEATED_S
from tests.streaming.rig import BLOCK, Rig

A, B = 16, 17
D = 10.0
IN_TIME = 2 * LOOK_S
"""A wait is judged so long after its deadline, at most."""

pytestmark = pytest.mark.logs("fetch_failed")


@pytest.fixture
def rig(pattern_bytes):
    return Rig({inode: pattern_bytes(60 * BLOCK, inode) for inode in (A, B)}, deadline_s=D, connections=4)


async def away(_flight):
    await trio.sleep(0.01)
    raise SourceUnavailable("away")


async def fails(rig, inode=A, start=0, stop=BLOCK):
    """Read what cannot be had; return how long that took."""
    began_s = trio.current_time()
    with pytest.raises(SourceUnavailable):
        await rig.reader.read(inode, ByteRange(start, stop))
    return trio.current_time() - began_s


def whole_deadline():
    return pytest.approx(D, abs=IN_TIME)


@pytest.mark.parametrize("blocks", [1, 2, 30])
async def test_it_is_one_deadline_for_all_blocks_of_a_read(rig, mock_clock, blocks):
    rig.fetcher.network = away
    async with rig.running():
        assert whole_deadline() == await fails(rig, stop=blocks * BLOCK)


async def test_a_block_that_comes_late_does_not_begin_it_anew_for_the_next(rig, mock_clock):
    async def all_but_the_first(flight):
        await trio.sleep(8.0)
        if flight.key.index:
            raise SourceUnavailable("away")

    rig.fetcher.network = all_but_the_first
    async with rig.running():
        assert whole_deadline() == await fails(rig, stop=2 * BLOCK)


async def test_who_comes_later_does_not_prolong_the_wait_of_who_was_there(rig, mock_clock):
    took_s = {}

    async def reads(name, after_s):
        await trio.sleep(after_s)
        took_s[name] = await fails(rig)

    rig.fetcher.network = away
    async with rig.running(), trio.open_nursery() as readers:
        for place in range(4):
            readers.start_soon(reads, place, 4.0 * place)

    assert dict.fromkeys(range(4), whole_deadline()) == took_s


@pytest.mark.parametrize("repeats", [1, 2, 3])
async def test_what_the_kernel_repeats_is_the_same_wait(rig, mock_clock, repeats):
    """A read that fails is repeated once, a page fault twice; a short read makes a program ask once more."""
    rig.fetcher.network = away
    async with rig.running():
        began_s = trio.current_time()
        await fails(rig, stop=3 * BLOCK)
        for _ in range(repeats):
            await fails(rig, start=BLOCK, stop=BLOCK + 4096)

        assert trio.current_time() - began_s <= D + IN_TIME + repeats * (REPEATED_S + IN_TIME)


@pytest.mark.parametrize("readers", [8, 64])
async def test_readers_of_one_page_have_their_errors_together(rig, mock_clock, readers):
    """The kernel has them ask one after the other, each with its repeats."""
    rig.fetcher.network = away
    async with rig.running():
        began_s = trio.current_time()
        for _ in range(3 * readers):
            await fails(rig)

        assert trio.current_time() - began_s <= D + IN_TIME + TRIES * (REPEATED_S + IN_TIME)


async def test_who_comes_after_many_is_not_refused_while_bytes_come(rig, mock_clock):
    rig.fetcher.network = away
    async with rig.running():
        for _ in range(1 + TRIES):
            await fails(rig)
        await trio.sleep(0.3)

        async def slow(flight):
            for stop in range(0, BLOCK, BLOCK // 4):
                await trio.sleep(0.2)
                rig.fetcher.fill(flight, stop)

        rig.fetcher.network = slow
        rig.loader.hint([BlockKey(A, 1)], Urgency.READAHEAD)
        await trio.sleep(0.5)
        assert rig.expected(A, 1) == await rig.reader.read(A, ByteRange(BLOCK, 2 * BLOCK))


@pytest.mark.parametrize(("span", "waits"), [(ByteRange(0, BLOCK), 1.0), (ByteRange(BLOCK, 2 * BLOCK), D)])
async def test_what_fails_at_another_worker_is_repeated_here(rig, mock_clock, span, waits):
    rig.fetcher.network = away
    async with rig.running():
        rig.loader.waits.expect([(A, ByteRange(0, 4096), time.monotonic() - D)])

        assert waits == pytest.approx(await fails(rig, A, span.start, span.stop), abs=IN_TIME)


async def test_a_repeat_has_waited_since_its_reader_began(rig, mock_clock):
    rig.fetcher.network = away
    seen = []
    async with rig.running() as nursery:
        for _ in range(2):
            nursery.start_soon(fails, rig)
            await trio.testing.wait_all_tasks_blocked()
            seen.append(rig.loader.traffic.oldest_wait().since_s)
            while rig.loader.traffic.oldest_wait() is not None:
                await trio.sleep(0.01)

    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("inode", "start", "pause_s"), [(B, 0, 0.0), (A, 20 * BLOCK, 0.0), (A, 0, REPEAT_S + 0.1)]
)
async def test_another_file_another_place_and_another_time_are_waits_of_their_own(
    rig, mock_clock, inode, start, pause_s
):
    rig.fetcher.network = away
    async with rig.running():
        await fails(rig)
        await trio.sleep(pause_s)

        assert whole_deadline() == await fails(rig, inode, start, start + BLOCK)


async def test_who_goes_on_asking_gets_the_bytes_when_the_source_is_back(rig, mock_clock):
    rig.fetcher.network = away
    async with rig.running():
        await fails(rig)
        await fails(rig)
        rig.fetcher.network = lambda _flight: trio.lowlevel.checkpoint()

        # While it is taken for the kernel the try under way may be one of before; then it waits anew.
        with suppress(SourceUnavailable):
            assert rig.expected(A, 0) == await rig.reader.read(A, ByteRange(0, BLOCK))
        await trio.sleep(REPEAT_S)
        assert rig.expected(A, 0) == await rig.reader.read(A, ByteRange(0, BLOCK))


async def test_a_reader_who_was_refused_may_ask_at_once_and_is_refused_at_once(rig, mock_clock):
    async def denied(_flight):
        raise AccessDenied("no")

    rig.fetcher.network = denied
    async with rig.running():
        began_s = trio.current_time()
        for _ in range(3):
            with pytest.raises(AccessDenied):
                await rig.reader.read(A, ByteRange(0, BLOCK))
        assert began_s == trio.current_time()


async def test_a_time_that_the_server_names_beyond_the_deadline_is_no_error_before_it(rig, mock_clock):
    async def throttled(_flight):
        raise SourceThrottled("slow down", retry_after_s=60.0)

    rig.fetcher.network = throttled
    async with rig.running():
        assert whole_deadline() == await fails(rig)

    assert 1 == rig.fetcher.fetched[BlockKey(A, 0)]


async def test_bytes_that_come_slowly_are_no_error(rig, mock_clock):
    async def slow(flight):
        for stop in range(0, BLOCK, BLOCK // 16):
            await trio.sleep(0.9 * D)
            rig.fetcher.fill(flight, stop)

    rig.fetcher.network = slow
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)


async def test_a_turn_that_comes_late_on_a_link_that_gives_is_no_error(rig, mock_clock):
    """Other blocks come, one after the other; this one waits for a lane."""

    async def one_by_one(flight):
        async with lane:
            await trio.sleep(0.5 * D)

    lane = trio.Lock()
    rig.fetcher.network = one_by_one
    async with rig.running(), trio.open_nursery() as readers:
        for index in range(12):
            readers.start_soon(rig.read, A, index)


async def test_a_reader_whose_block_no_lane_could_take_gets_the_error_in_time(rig, mock_clock):
    rig.fetcher.network = lambda _flight: trio.sleep_forever()
    took_s = []

    async def reads(index):
        took_s.append(await fails(rig, start=index * BLOCK, stop=(index + 1) * BLOCK))

    async with rig.running(), trio.open_nursery() as readers:
        for index in range(4 + DEMAND_LANES + 5):
            readers.start_soon(reads, index)

    assert [whole_deadline()] * len(took_s) == took_s


async def test_what_the_disk_did_not_give_has_the_whole_deadline_with_the_source(rig, mock_clock):
    rig.fetcher.stored = {BlockKey(A, 0): b""}
    up_at_s = trio.current_time() + 1.5 * D

    async def hangs(_flight):
        await trio.sleep(D)
        raise BlockUnreadable("it hangs")

    async def away_for_a_while(flight):
        if trio.current_time() < up_at_s:
            await away(flight)

    rig.fetcher.disk, rig.fetcher.network = hangs, away_for_a_while
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)


async def test_a_reader_does_not_find_that_nobody_has_tried_for_it(rig, mock_clock, monkeypatch):
    """Warm-up has failed often, and rests for long; the source is back, and a reader comes."""
    monkeypatch.setattr("lazyfs.streaming.retries.random.random", lambda: 0.99)
    rig.fetcher.network = away
    async with rig.running():
        rig.loader.hint([BlockKey(A, 0)], Urgency.WARMUP)
        while rig.fetcher.fetched[BlockKey(A, 0)] < 6:
            await trio.sleep(0.01)
        await trio.sleep(0.1)
        rig.fetcher.network = lambda _flight: trio.lowlevel.checkpoint()
        began_s = trio.current_time()
        await rig.read(A, 0)

        assert trio.current_time() - began_s <= 1.0


async def test_what_waits_long_for_its_turn_is_not_given_up_at_its_first_trouble(rig, mock_clock):
    gave_up, troubled = [], []
    rig.loader.gave_up = lambda key, _error: gave_up.append(key)

    async def slow(flight):
        await trio.sleep(0.3 * D)
        if flight.key.index == 39 and not troubled:
            troubled.append(trio.current_time())
            raise SourceUnavailable("reset")

    rig.fetcher.network = slow
    async with rig.running():
        rig.loader.hint([BlockKey(A, index) for index in range(40)], Urgency.READAHEAD)
        while rig.loader.keeper.landed_bytes < 40 * BLOCK and not gave_up:
            await trio.sleep(1.0)

    assert troubled[0] > D
    assert not gave_up


@pytest.mark.parametrize(
    ("waited_s", "expected_s"), [(4.0, D - 4.0), (D - 0.1, INHERITED_S), (99.0, INHERITED_S)]
)
async def test_a_worker_that_takes_over_goes_on_with_the_wait(rig, mock_clock, waited_s, expected_s):
    rig.fetcher.network = away
    async with rig.running():
        began_s = trio.current_time()
        with pytest.raises(SourceUnavailable):
            await rig.reader.read(A, ByteRange(0, BLOCK), time.monotonic() - waited_s)

        assert expected_s == pytest.approx(trio.current_time() - began_s, abs=IN_TIME)


async def test_only_who_waits_because_something_is_wrong_is_in_trouble(rig, mock_clock):
    lane = trio.Lock()

    async def one_by_one(flight):
        async with lane:
            await trio.sleep(0.5)

    rig.fetcher.network = one_by_one
    async with rig.running(), trio.open_nursery() as readers:
        for index in range(8):
            readers.start_soon(rig.read, A, index)
        await trio.sleep(2.0)
        assert not rig.loader.waits.in_trouble

    rig = Rig(rig.contents, deadline_s=D)
    rig.fetcher.network = away
    async with rig.running() as nursery:
        nursery.start_soon(fails, rig)
        await trio.sleep(2.0)
        assert rig.loader.waits.in_trouble
