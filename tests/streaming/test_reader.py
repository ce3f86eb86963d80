import random

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.blob import ByteRange
from lazyfs.core.plan import Policy
from lazyfs.errors import LazyfsError, SourceUnavailable
from lazyfs.telemetry import metrics
from tests.streaming.rig import BLOCK, Rig

A = 16


def rig_of(contents, **options):
    return Rig({A: contents}, **options)


def run(main):
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


spans = st.tuples(st.integers(0, 6 * BLOCK), st.integers(1, 3 * BLOCK))


@given(
    size=st.integers(1, 6 * BLOCK),
    asked=st.lists(spans, min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    memory=st.integers(3, 12),
    policy=st.sampled_from(Policy),
    store=st.booleans(),
)
@settings(max_examples=80)
def test_a_read_is_exactly_its_bytes_whatever_fails_and_whoever_reads_beside(
    size, asked, seed, memory, policy, store
):
    chance = random.Random(seed)
    contents = bytes(chance.randbytes(size))
    rig = rig_of(contents, memory_blocks=memory, policy=policy, deadline_s=1000.0, store=store)

    async def unreliable(flight):
        await trio.sleep(chance.random())
        rig.fetcher.fill(flight, chance.randint(flight.block.filled_bytes, flight.block.size_bytes))
        if chance.random() < 0.4:
            raise SourceUnavailable("reset")
        await trio.sleep(chance.random())

    rig.fetcher.network = unreliable

    async def reads(start, length):
        span = ByteRange(min(start, size - 1), min(start + length, size))
        now = rig.reader.read_now(A, span)
        got = await rig.reader.read(A, span) if now is None else now
        assert contents[span.start : span.stop] == bytes(got)

    async def main():
        async with rig.running(), trio.open_nursery() as readers:
            for start, length in asked:
                readers.start_soon(reads, start, length)

    run(main)


async def test_a_read_within_a_block_is_a_view_and_one_across_is_put_together(pattern_bytes):
    contents = pattern_bytes(3 * BLOCK)
    rig = rig_of(contents)
    async with rig.running():
        within = await rig.reader.read(A, ByteRange(10, 20))
        across = await rig.reader.read(A, ByteRange(BLOCK - 5, 2 * BLOCK + 5))

    assert isinstance(within, memoryview)
    assert contents[10:20] == bytes(within)
    assert contents[BLOCK - 5 : 2 * BLOCK + 5] == across


async def test_what_is_in_memory_is_read_without_waiting_and_what_is_not_is_not(pattern_bytes):
    contents = pattern_bytes(2 * BLOCK)
    rig = rig_of(contents)
    async with rig.running():
        assert rig.reader.read_now(A, ByteRange(0, 10)) is None
        await rig.reader.read(A, ByteRange(0, 10))

        assert contents[5:BLOCK] == bytes(rig.reader.read_now(A, ByteRange(5, BLOCK)))
        assert rig.reader.read_now(A, ByteRange(5, BLOCK + 1)) is None

    assert 10 == rig.meter.value(metrics.READ_BYTES, "network")
    assert BLOCK - 5 == rig.meter.value(metrics.READ_BYTES, "memory")


async def test_a_view_a_reader_holds_keeps_its_bytes_when_the_block_leaves(pattern_bytes):
    contents = pattern_bytes(30 * BLOCK)
    rig = rig_of(contents, memory_blocks=2)
    async with rig.running():
        held = await rig.reader.read(A, ByteRange(0, BLOCK))
        for index in range(1, 30):
            await rig.reader.read(A, ByteRange(index * BLOCK, (index + 1) * BLOCK))

        assert contents[:BLOCK] == bytes(held)


async def test_the_demand_is_queued_before_the_read_ahead_it_leads_to(pattern_bytes):
    rig = rig_of(pattern_bytes(20 * BLOCK), connections=1)
    gate = trio.Semaphore(0)
    rig.fetcher.network = lambda _flight: gate.acquire()
    async with rig.running() as nursery:
        nursery.start_soon(rig.reader.read, A, ByteRange(0, 2 * BLOCK))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(6):
            gate.release()
            await trio.testing.wait_all_tasks_blocked()

    assert [0, 1, 2] == [key.index for key in rig.fetcher.order[:3]]


async def test_an_error_of_one_of_several_blocks_is_the_readers_error(pattern_bytes):
    rig = rig_of(pattern_bytes(3 * BLOCK))

    async def second_fails(flight):
        if flight.key.index == 1:
            raise LazyfsError("broken")

    rig.fetcher.network = second_fails
    async with rig.running():
        try:
            await rig.reader.read(A, ByteRange(0, 3 * BLOCK))
        except LazyfsError as error:
            assert "broken" == str(error)
        else:
            raise AssertionError("it should have failed")


import pytest  # noqa: E402

test_an_error_of_one_of_several_blocks_is_the_readers_error = pytest.mark.logs("fetch_failed")(
    test_an_error_of_one_of_several_blocks_is_the_readers_error
)
