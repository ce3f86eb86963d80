"""What the loader does when a block cannot be had, or not as it should be."""

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from lazyfs.core.blob import BlockKey
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.plan import Policy
from lazyfs.errors import (
    AccessDenied,
    BlobChanged,
    BlobTorn,
    BlockCorrupt,
    BlockGone,
    LazyfsError,
    SourceThrottled,
    SourceUnavailable,
)
from lazyfs.streaming.waits import LOOK_S
from lazyfs.telemetry import metrics
from tests.streaming.rig import BLOCK, Rig, until

A, B = 16, 17


@pytest.fixture
def contents(pattern_bytes):
    return {A: pattern_bytes(25 * BLOCK, 1), B: pattern_bytes(3 * BLOCK + 100, 2)}


async def test_passing_trouble_is_retried_until_it_passes(contents, mock_clock):
    rig = Rig(contents)
    tries = []

    async def flaky(flight):
        tries.append(trio.current_time())
        if len(tries) < 5:
            raise SourceUnavailable("away")

    rig.fetcher.network = flaky
    async with rig.running():
        assert rig.expected(A, 3) == await rig.read(A, 3)

    assert 5 == len(tries)
    assert 4 == rig.meter.value(metrics.RETRIES)
    assert 4 == rig.meter.value(metrics.ERRORS, "source_unavailable")


async def test_what_had_landed_is_not_fetched_again_by_the_next_try(contents, mock_clock):
    rig = Rig(contents)
    starts = []

    async def breaks_in_the_middle(flight):
        starts.append(flight.block.filled_bytes)
        if len(starts) == 1:
            rig.fetcher.fill(flight, 1000)
            raise SourceUnavailable("reset")

    rig.fetcher.network = breaks_in_the_middle
    async with rig.running():
        assert rig.expected(A, 3) == await rig.read(A, 3)

    assert [0, 1000] == starts


@pytest.mark.parametrize("landed_bytes", [0, 1000])
async def test_flights_that_are_tried_again_never_wait_for_memory_that_others_like_them_hold(
    contents, mock_clock, landed_bytes
):
    rig = Rig(contents, memory_blocks=4, connections=2, deadline_s=60.0)
    healthy_at_s = trio.current_time() + 1

    async def passing(flight):
        rig.fetcher.fill(flight, max(landed_bytes, flight.block.filled_bytes))
        await trio.sleep(0.01)
        if trio.current_time() < healthy_at_s:
            raise SourceUnavailable("away")

    rig.fetcher.network = passing
    async with rig.running(), trio.open_nursery() as readers:
        for index in range(12):
            readers.start_soon(rig.read, A, index)
        with trio.fail_after(30):
            while readers.child_tasks:
                await trio.sleep(0.5)


@pytest.mark.parametrize("landed_bytes", [0, 1000])
async def test_one_file_in_trouble_takes_no_memory_from_the_others(contents, mock_clock, landed_bytes):
    rig = Rig(contents, memory_blocks=4, connections=4, deadline_s=300.0)

    async def broken(flight):
        if flight.key.inode == A:
            rig.fetcher.fill(flight, max(landed_bytes, flight.block.filled_bytes))
            raise SourceUnavailable("away")

    rig.fetcher.network = broken
    async with rig.running() as nursery:
        for index in range(10):
            nursery.start_soon(rig.read, A, index)
        await trio.sleep(5)
        with trio.fail_after(30):
            for index in range(4):
                assert rig.expected(B, index) == await rig.read(B, index)


async def test_a_block_the_store_lost_goes_on_with_the_memory_it_has(contents):
    rig = Rig(contents, memory_blocks=2, connections=1)
    rig.fetcher.stored = {BlockKey(A, index): b"" for index in range(8)}
    meet = trio.Event()

    async def gone(_flight):
        await meet.wait()
        raise BlockGone("evicted")

    rig.fetcher.disk = gone
    async with rig.running(), trio.open_nursery() as readers:
        for index in range(8):
            readers.start_soon(rig.read, A, index)
        await wait_all_tasks_blocked()
        meet.set()
        with trio.fail_after(10):
            while readers.child_tasks:
                await trio.sleep(0.01)


async def test_a_lane_that_rests_holds_no_block(contents):
    rig = Rig(contents, store=True)
    async with rig.running():
        await rig.read(A, 0)
        await wait_all_tasks_blocked(0.05)
        block = weakref.ref(rig.loader.peek(BlockKey(A, 0), 1).buffer)
        rig.memory.drop(BlockKey(A, 0))
        rig.memory.trim()
        await wait_all_tasks_blocked()
        gc.collect()
        assert block() is None


@pytest.mark.logs("fetch_failed")
async def test_after_the_deadline_every_waiter_gets_the_error_and_the_next_reader_a_new_try(
    contents, mock_clock
):
    rig = Rig(contents, deadline_s=30.0)

    async def down(_flight):
        raise SourceUnavailable("away")

    rig.fetcher.network = down
    raised = []
    async with rig.running():
        began = trio.current_time()

        async def fails():
            with pytest.raises(SourceUnavailable) as caught:
                await rig.read(A, 0)
            raised.append(caught.value)

        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(fails)
        assert 30 == pytest.approx(trio.current_time() - began, abs=2 * LOOK_S)

        rig.fetcher.network = lambda _flight: trio.lowlevel.checkpoint()
        assert rig.expected(A, 0) == await rig.read(A, 0)

    assert 3 == len({id(error) for error in raised})
    assert 0 == len(rig.loader.statistics().flights)


@pytest.mark.logs("fetch_failed")
async def test_a_reader_that_comes_late_still_gets_the_whole_deadline(contents, mock_clock):
    rig = Rig(contents, deadline_s=30.0)

    async def down(_flight):
        raise SourceUnavailable("away")

    rig.fetcher.network = down
    async with rig.running():
        rig.loader.hint([BlockKey(A, 0)], Urgency.WARMUP)
        await trio.sleep(25)
        began = trio.current_time()
        with pytest.raises(SourceUnavailable):
            await rig.read(A, 0)

        assert 30 == pytest.approx(trio.current_time() - began, abs=2 * LOOK_S)


async def test_the_servers_word_on_when_to_come_back_is_kept(contents, mock_clock):
    rig = Rig(contents)
    tries = []

    async def throttled(_flight):
        tries.append(trio.current_time())
        if len(tries) == 1:
            raise SourceThrottled("slow down", retry_after_s=7.0)

    rig.fetcher.network = throttled
    async with rig.running():
        await rig.read(A, 0)

    assert tries[1] - tries[0] >= 7.0


@pytest.mark.logs("fetch_failed")
@pytest.mark.parametrize("error", [AccessDenied("no"), LazyfsError("odd")])
async def test_lasting_trouble_is_told_at_once(contents, error, mock_clock):
    rig = Rig(contents)

    async def refused(_flight):
        raise error

    rig.fetcher.network = refused
    async with rig.running():
        began = trio.current_time()
        with pytest.raises(type(error), match=str(error)):
            await rig.read(A, 0)
        assert trio.current_time() == began

    assert 1 == rig.fetcher.fetched[BlockKey(A, 0)]


@pytest.mark.logs("fetch_failed")
async def test_a_changed_blob_is_asked_for_once_and_what_was_read_stays(contents, mock_clock):
    rig = Rig(contents, policy=Policy.MODEL, connections=1)

    async def changed(flight):
        if flight.key.inode == A and flight.key.index:
            raise BlobChanged("another version")

    rig.fetcher.network = changed
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)
        for index in (1, 2, 3):
            with pytest.raises(BlobChanged):
                await rig.read(A, index)
        rig.loader.hint([BlockKey(A, 5)], Urgency.READAHEAD)
        assert rig.expected(A, 0) == await rig.read(A, 0)
        await trio.sleep(5)

    assert [0, 1] == sorted(key.index for key in rig.fetcher.fetched if key.inode == A)
    assert {0, 1, 2, 3} == {key.index for key in rig.fetcher.fetched if key.inode == B}
    assert 1 == rig.meter.value(metrics.BLOBS_CHANGED)


@pytest.mark.logs("fetch_failed")
async def test_what_the_store_holds_of_a_changed_blob_stays_readable(contents, mock_clock):
    rig = Rig(contents)
    rig.fetcher.stored = {BlockKey(A, 0): rig.expected(A, 0), BlockKey(A, 1): rig.expected(A, 1)}

    async def changed(_flight):
        raise BlobChanged("another version")

    rig.fetcher.network = changed
    async with rig.running():
        with pytest.raises(BlobChanged):
            await rig.read(A, 2)
        assert rig.expected(A, 0) == await rig.read(A, 0)
        rig.loader.hint([BlockKey(A, 1)], Urgency.READAHEAD)
        await trio.sleep(0.1)
        assert rig.loader.peek(BlockKey(A, 1), 1) is not None
        with pytest.raises(BlobChanged):
            await rig.read(A, 2)


@pytest.mark.logs("fetch_failed")
async def test_nothing_is_given_out_of_a_blob_that_is_torn_wherever_it_is(contents, mock_clock):
    rig = Rig(contents)
    rig.fetcher.stored = {BlockKey(A, 1): rig.expected(A, 1)}

    async def torn(flight):
        if flight.key.index:
            raise BlobTorn("two versions")

    rig.fetcher.network = torn
    async with rig.running():
        await rig.read(A, 0)
        await rig.read(A, 1)
        for index in (2, 0, 1):
            with pytest.raises(BlobTorn):
                await rig.read(A, index)
        assert rig.loader.peek(BlockKey(A, 0), 1) is None


@pytest.mark.logs("fetch_failed")
async def test_an_error_that_is_kept_keeps_no_memory(contents):
    rig = Rig(contents)

    async def changed(_flight):
        raise BlobChanged("another version") from RuntimeError("a frame with a view of the block")

    rig.fetcher.network = changed
    async with rig.running():
        with pytest.raises(BlobChanged):
            await rig.read(A, 0)
        assert rig.loader.statistics().changed[A].__traceback__ is None
        assert rig.loader.statistics().changed[A].__cause__ is None


@pytest.mark.logs("internal_error")
async def test_a_bug_in_the_store_is_a_block_not_kept_and_not_the_end(contents):
    rig = Rig(contents, store=True)

    def buggy(_key, _content):
        raise ZeroDivisionError

    rig.write = buggy
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)
        await until(lambda: rig.meter.value(metrics.BLOCKS_DECLINED, "internal_error") == 1)
        assert rig.expected(A, 1) == await rig.read(A, 1)


async def test_a_block_of_an_evicted_blob_is_fetched_again_and_is_no_repair(contents):
    rig = Rig(contents)
    rig.fetcher.stored = {BlockKey(A, 0): b""}

    async def gone(_flight):
        raise BlockGone("evicted")

    rig.fetcher.disk = gone
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)

    assert 0 == rig.meter.value(metrics.BLOCKS_REPAIRED)


@pytest.mark.logs("internal_error", "fetch_failed")
async def test_a_bug_of_ours_is_a_readers_error_and_not_the_end(contents, caplog):
    rig = Rig(contents)

    async def buggy(flight):
        if flight.key.index == 0:
            raise ZeroDivisionError

    rig.fetcher.network = buggy
    async with rig.running():
        with pytest.raises(LazyfsError, match="internal error"):
            await rig.read(A, 0)
        assert rig.expected(A, 1) == await rig.read(A, 1)

    assert "ZeroDivisionError" in caplog.text


@pytest.mark.logs("block_corrupt")
async def test_a_block_the_store_lost_comes_from_the_network_and_is_counted(contents):
    rig = Rig(contents, store=True)
    rig.fetcher.stored = {BlockKey(A, 0): rig.expected(A, 0), BlockKey(A, 1): b""}

    async def corrupt(flight):
        if flight.key.index == 1:
            del rig.fetcher.stored[flight.key]
            raise BlockCorrupt("does not match")

    rig.fetcher.disk = corrupt
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)
        assert rig.expected(A, 1) == await rig.read(A, 1)
        await until(lambda: BlockKey(A, 1) in rig.fetcher.stored)

    assert {BlockKey(A, 1): 1} == rig.fetcher.fetched
    assert 1 == rig.meter.value(metrics.BLOCKS_REPAIRED)
    assert 1 == rig.meter.value(metrics.ERRORS, "block_corrupt")
