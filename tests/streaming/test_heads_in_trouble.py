"""Heads beside small memories, late landings, retries and readers in any order. The clock is a fake."""

import pytest
import trio

from lazyfs.core.blob import HEAD, PAGE_BYTES, BlockKey, ByteRange
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.plan import Policy
from lazyfs.errors import SourceUnavailable
from tests.streaming.rig import BLOCK, Rig

FILES = range(100, 108)


@pytest.fixture
def contents():
    return {inode: bytes([inode % 251 + 1]) * (3 * BLOCK) for inode in FILES}


async def test_a_block_as_large_as_the_budget_is_not_kept_out_by_heads(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig(
        {i: contents[i] for i in FILES[:2]}, policy=Policy.MODEL, memory_blocks=1, head_bytes=PAGE_BYTES
    )
    async with rig.running():
        with trio.move_on_after(100) as scope:
            assert contents[FILES[0]][:BLOCK] == await rig.reader.read(FILES[0], ByteRange(0, BLOCK))
            await trio.sleep(2)
            assert contents[FILES[0]][:BLOCK] == await rig.reader.read(FILES[0], ByteRange(BLOCK, 2 * BLOCK))
    assert not scope.cancelled_caught, "waited 100 s"


async def test_a_reader_behind_a_header_gets_the_whole_deadline(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig({i: contents[i] for i in FILES[:2]}, policy=Policy.MODEL, head_bytes=PAGE_BYTES)

    async def down_but_heads(flight):
        await trio.sleep(0.01)
        if flight.key == BlockKey(FILES[1], 0) and trio.current_time() - start < 20:
            raise SourceUnavailable("down")

    rig.fetcher.network = down_but_heads
    start = trio.current_time()
    async with rig.running():
        await trio.sleep(1)
        flight = rig.loader.statistics().flights[BlockKey(FILES[1], 0)]
        assert flight.adopted_bytes
        flight.deadline_at_s = trio.current_time() + 2.0  # as if it had been tried for 58 s already
        at = trio.current_time()
        try:
            got = await rig.reader.read(FILES[1], ByteRange(PAGE_BYTES, PAGE_BYTES + 10))
        except SourceUnavailable:
            pytest.fail(f"error after {trio.current_time() - at:.2f} s, deadline is 60 s")
        assert contents[FILES[1]][:10] == got


@pytest.mark.logs("fetch_failed")
async def test_a_reader_of_a_header_that_is_under_way_gets_the_whole_deadline_too(
    contents, mock_clock, monkeypatch
):
    # Whether the head or its first block comes to be tried again first is chance.
    monkeypatch.setattr("lazyfs.streaming.retries.random.random", lambda: 0.5)
    rig = Rig({i: contents[i] for i in FILES[:2]}, policy=Policy.MODEL, head_bytes=PAGE_BYTES)

    async def down(flight):
        await trio.sleep(0.01)
        if trio.current_time() < 80:
            raise SourceUnavailable("down")

    rig.fetcher.network = down
    async with rig.running():
        await trio.sleep(50)
        assert BlockKey(FILES[1], HEAD) in rig.loader.statistics().flights
        assert contents[FILES[1]][:10] == await rig.reader.read(FILES[1], ByteRange(0, 10))


async def test_a_header_that_is_in_memory_is_not_waited_for(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig(contents, policy=Policy.MODEL, connections=1, head_bytes=PAGE_BYTES)

    async def slow(flight):
        await trio.sleep(0.1 if flight.key.index == HEAD else 10.0)

    rig.fetcher.network = slow
    last = FILES[3]
    async with rig.running() as nursery:
        # lane busy with the first file's block; only demand boards
        await trio.sleep(0.01)
        nursery.start_soon(rig.reader.read, last, ByteRange(PAGE_BYTES, 2 * PAGE_BYTES))
        await trio.sleep(0.01)
        at = trio.current_time()
        await rig.reader.read(last, ByteRange(0, 100))
        assert trio.current_time() - at < 1.0


async def test_what_was_read_from_a_head_counts_for_its_block(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig(contents, policy=Policy.MODEL, head_bytes=PAGE_BYTES)

    async def slow(flight):
        await trio.sleep(0.01 if flight.key.index == HEAD else 0.5)

    rig.fetcher.network = slow
    async with rig.running():
        await trio.sleep(0.1)
        for inode in FILES[1:]:
            await rig.reader.read(inode, ByteRange(0, PAGE_BYTES))
        await trio.sleep(10)
        await rig.reader.read(FILES[0], ByteRange(0, PAGE_BYTES))
        for inode in FILES:
            await rig.reader.read(inode, ByteRange(PAGE_BYTES, 3 * BLOCK))
        assert not rig.ledger.statistics().unspent


@pytest.mark.parametrize("head_bytes", [0, PAGE_BYTES])
async def test_files_in_any_order_load_in_a_small_memory_without_waiting_for_patience(head_bytes, mock_clock):
    mock_clock.autojump_threshold = 0
    files = range(100, 120)
    contents = {i: bytes([i % 251 + 1]) * (3 * BLOCK) for i in files}
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=24, head_bytes=head_bytes)

    async def net(flight):
        await trio.sleep(0.1)

    rig.fetcher.network = net
    async with rig.running():
        await trio.sleep(5)
        at = trio.current_time()
        for inode in files[::-1]:
            for offset in range(0, 3 * BLOCK, PAGE_BYTES):
                assert contents[inode][:PAGE_BYTES] == await rig.reader.read(
                    inode, ByteRange(offset, offset + PAGE_BYTES)
                )
        took = trio.current_time() - at
        assert took < 15, took


@pytest.mark.parametrize("head_bytes", [0, PAGE_BYTES])
async def test_more_files_than_memory_has_room_for_first_blocks_load_in_order(head_bytes, mock_clock):
    mock_clock.autojump_threshold = 0
    files = range(100, 130)
    contents = {i: bytes([i % 251 + 1]) * (6 * BLOCK) for i in files}
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=24, connections=8, head_bytes=head_bytes)

    async def net(flight):
        await trio.sleep(0.02 if flight.key.index == HEAD else 0.1)

    rig.fetcher.network = net
    async with rig.running():
        await trio.sleep(0.001)
        at = trio.current_time()
        for inode in files:
            await rig.reader.read(inode, ByteRange(0, PAGE_BYTES))
        for inode in files:
            for offset in range(PAGE_BYTES, 6 * BLOCK, PAGE_BYTES):
                await rig.reader.read(inode, ByteRange(offset, offset + PAGE_BYTES))
        took = trio.current_time() - at
        assert took < 20, took


async def test_a_head_that_lands_while_its_block_is_asked_for_leaves_with_it(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig(
        {FILES[0]: contents[FILES[0]], FILES[1]: contents[FILES[1]]},
        policy=Policy.MODEL,
        head_bytes=PAGE_BYTES,
    )

    async def net(flight):
        if flight.key.index == HEAD:
            await trio.sleep(1.5)
        elif flight.key.index == 0:
            await trio.sleep(2.0)

    rig.fetcher.network = net
    async with rig.running():
        await trio.sleep(0.01)
        await rig.read(FILES[1], 0)
        await trio.sleep(5)
        assert 6 * BLOCK == rig.ledger.used_bytes


async def test_bytes_that_were_adopted_and_lost_again_are_not_subtracted(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig({i: contents[i] for i in FILES[:2]}, memory_blocks=2, head_bytes=PAGE_BYTES)
    key, down = BlockKey(FILES[1], 0), [True]

    async def net(flight):
        await trio.sleep(0.01)
        if flight.key == key:
            if down:
                raise SourceUnavailable("down")
            await trio.sleep(100)

    rig.fetcher.network = net
    async with rig.running():
        rig.loader.hint([BlockKey(FILES[1], HEAD), key], Urgency.READAHEAD)
        while not rig.loader.statistics().resting:
            await trio.sleep(0.001)
        assert rig.loader.statistics().flights[key].adopted_bytes
        # Two blocks are as much as there is memory: the second takes that of the flight that rests.
        await rig.reader.read(FILES[0], ByteRange(0, 2 * BLOCK))
        down.clear()
        await trio.sleep(50)
        assert rig.loader.statistics().flights[key].filled_bytes == 0
        assert rig.loader.traffic.arriving_bytes >= 0
