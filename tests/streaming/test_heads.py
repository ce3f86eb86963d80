"""Headers come first, in small requests of their own, and what they brought is not fetched again."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from lazyfs.core.blob import HEAD, PAGE_BYTES, BlockKey, ByteRange
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.plan import Policy
from lazyfs.errors import SourceUnavailable
from lazyfs.streaming.loader import PATIENCE_S
from lazyfs.telemetry.metrics import FETCH_BYTES
from tests.streaming.rig import BLOCK, Rig

FILES = range(100, 108)


@pytest.fixture
def contents():
    return {inode: bytes([inode % 251 + 1]) * (3 * BLOCK) for inode in FILES}


def header(inode):
    return inode, ByteRange(0, PAGE_BYTES)


async def only_heads(flight):
    """Let nothing through but heads."""
    if flight.key.index != HEAD:
        await trio.sleep_forever()


async def test_all_headers_can_be_read_before_any_block_has_come(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=4, head_bytes=PAGE_BYTES)
    rig.fetcher.network = only_heads
    async with rig.running():
        await wait_all_tasks_blocked()
        for inode in FILES[1:]:
            assert contents[inode][:PAGE_BYTES] == await rig.reader.read(*header(inode))

        assert [BlockKey(inode, HEAD) for inode in FILES[1:]] == [
            key for key in rig.fetcher.order if key.index == HEAD
        ]


async def test_a_reader_of_a_header_waits_for_the_head_that_is_under_way_and_starts_nothing(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=1, head_bytes=PAGE_BYTES)
    rig.fetcher.network = only_heads
    last = FILES[-1]
    async with rig.running():
        await trio.sleep(0.01)
        await rig.reader.read(*header(last))

        assert BlockKey(last, 0) not in rig.fetcher.fetched
        assert 1 == rig.fetcher.fetched[BlockKey(last, HEAD)]


async def test_a_block_goes_on_where_the_head_ended_and_bytes_count_once(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=2, head_bytes=PAGE_BYTES)
    had = {}

    async def remember(flight):
        had[flight.key] = flight.filled_bytes
        await trio.lowlevel.checkpoint()

    rig.fetcher.network = remember
    async with rig.running():
        await wait_all_tasks_blocked(0.05)
        for inode in FILES:
            whole = await rig.reader.read(inode, ByteRange(0, 3 * BLOCK))
            assert contents[inode] == whole

    assert [PAGE_BYTES] * (len(FILES) - 1) == [had[BlockKey(inode, 0)] for inode in FILES[1:]]
    assert sum(map(len, contents.values())) == rig.meter.value(FETCH_BYTES, "network")
    assert not [key for key in rig.fetcher.fetched if rig.fetcher.fetched[key] > 1]


async def test_a_block_waits_for_a_head_that_is_nearly_there(contents):
    rig = Rig(contents, policy=Policy.MODEL, head_bytes=PAGE_BYTES)
    come = trio.Event()

    async def heads_later(flight):
        if flight.key.index == HEAD:
            await come.wait()

    rig.fetcher.network = heads_later
    async with rig.running() as nursery:
        await wait_all_tasks_blocked()
        nursery.start_soon(rig.read, FILES[1], 0)
        await wait_all_tasks_blocked()
        assert not rig.fetcher.fetched[BlockKey(FILES[1], 0)]
        come.set()
        assert contents[FILES[1]][:BLOCK] == await rig.read(FILES[1], 0)
        await wait_all_tasks_blocked(0.05)

    assert sum(map(len, contents.values())) == rig.meter.value(FETCH_BYTES, "network")


async def test_beyond_the_head_a_reader_gets_the_block(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=4, head_bytes=PAGE_BYTES)

    async def only_one(flight):
        if flight.key != BlockKey(FILES[3], 0):
            await trio.sleep_forever()

    rig.fetcher.network = only_one
    async with rig.running():
        expected = contents[FILES[3]][: PAGE_BYTES + 1]
        assert expected == await rig.reader.read(FILES[3], ByteRange(0, PAGE_BYTES + 1))


async def test_what_lies_behind_a_header_is_not_urgent_until_it_has_been_waited_for(contents, mock_clock):
    mock_clock.autojump_threshold = 0
    rig = Rig(contents, policy=Policy.MODEL, connections=1, head_bytes=PAGE_BYTES)

    async def speculation_is_stuck(flight):
        if flight.urgency is not Urgency.DEMAND:
            await trio.sleep_forever()

    rig.fetcher.network = speculation_is_stuck
    async with rig.running():
        await trio.sleep(0.01)
        await rig.reader.read(*header(FILES[3]))
        began_s = trio.current_time()

        whole = await rig.reader.read(FILES[3], ByteRange(0, BLOCK))

        assert contents[FILES[3]][:BLOCK] == whole
        assert PATIENCE_S == pytest.approx(trio.current_time() - began_s)


async def test_a_head_that_comes_after_its_block_takes_no_memory(contents):
    rig = Rig({FILES[0]: contents[FILES[0]], FILES[1]: contents[FILES[1]]}, policy=Policy.MODEL,
              head_bytes=PAGE_BYTES)  # fmt: skip
    come = trio.Event()

    async def heads_later(flight):
        if flight.key.index == HEAD:
            await come.wait()

    rig.fetcher.network = heads_later
    async with rig.running():
        await rig.read(FILES[1], 0)  # which waits a while for the head
        come.set()
        await wait_all_tasks_blocked(0.05)

        assert 6 * BLOCK == rig.ledger.used_bytes


@pytest.mark.logs("fetch_failed")
async def test_a_head_that_cannot_be_had_is_the_readers_error_and_the_next_reader_gets_the_block(
    contents, mock_clock
):
    mock_clock.autojump_threshold = 0
    rig = Rig(contents, policy=Policy.MODEL, connections=4, deadline_s=1.0, head_bytes=PAGE_BYTES)

    async def no_heads(flight):
        await trio.sleep(0.1)
        if flight.key.index == HEAD:
            raise SourceUnavailable("down")

    rig.fetcher.network = no_heads
    async with rig.running():
        await trio.sleep(0.01)
        with pytest.raises(SourceUnavailable):
            await rig.reader.read(*header(FILES[5]))
        assert contents[FILES[5]][:PAGE_BYTES] == await rig.reader.read(*header(FILES[5]))


async def test_what_is_stored_needs_no_head(contents):
    rig = Rig(contents, policy=Policy.MODEL, head_bytes=PAGE_BYTES, store=True)
    rig.fetcher.stored = {
        BlockKey(inode, index): contents[inode][index * BLOCK : (index + 1) * BLOCK]
        for inode in FILES
        for index in range(3)
    }
    async with rig.running():
        await wait_all_tasks_blocked(0.05)

    assert not rig.fetcher.fetched


async def test_heads_that_cost_their_whole_blob_are_only_fetched_when_somebody_waits(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=1, head_bytes=PAGE_BYTES)
    rig.fetcher.heads_cost_all = True
    last = FILES[-1]
    async with rig.running():
        assert contents[last][:PAGE_BYTES] == await rig.reader.read(*header(last))
        await wait_all_tasks_blocked()

        assert set(rig.fetcher.fetched) >= {BlockKey(inode, index) for inode in FILES for index in range(3)}
        assert not [key for key in rig.fetcher.fetched if key.index == HEAD and key.inode != last]
