import pytest
import trio

from lazyfs.core.blob import BlockKey
from lazyfs.core.fetchqueue import Urgency
from lazyfs.errors import SourceUnavailable
from lazyfs.streaming.flight import HUGE_PAGE_BYTES, Buffers, Flight, Tier


def test_a_buffer_is_used_again_once_nobody_sees_it():
    buffers = Buffers()
    block = buffers.take(HUGE_PAGE_BYTES)
    memory = block.buffer

    buffers.give(block)

    assert HUGE_PAGE_BYTES == buffers.free_bytes
    assert memory is buffers.take(HUGE_PAGE_BYTES).buffer
    assert 0 == buffers.free_bytes


def test_a_buffer_somebody_still_sees_is_never_used_again():
    buffers = Buffers()
    block = buffers.take(HUGE_PAGE_BYTES)
    block.pages[:5] = b"right"
    block.filled_bytes = 5
    seen = block.cut(0, 5)

    buffers.give(block)
    other = buffers.take(HUGE_PAGE_BYTES)
    other.pages[:5] = b"wrong"

    assert b"right" == bytes(seen)


def test_a_block_that_has_left_cannot_be_read_by_accident():
    buffers = Buffers()
    block = buffers.take(HUGE_PAGE_BYTES)
    block.filled_bytes = 10
    buffers.give(block)

    with pytest.raises(ValueError, match="released"):
        block.cut(0, 10)


def test_bytes_that_have_not_landed_are_not_given_out():
    block = Buffers().take(100)
    block.filled_bytes = 10

    with pytest.raises(RuntimeError):
        block.cut(5, 11)


def test_small_buffers_are_not_kept_and_trimming_lets_go():
    buffers = Buffers()
    buffers.give(buffers.take(100))
    assert 0 == buffers.free_bytes

    for block in [buffers.take(HUGE_PAGE_BYTES) for _ in range(3)]:
        buffers.give(block)
    buffers.trim(HUGE_PAGE_BYTES)
    assert HUGE_PAGE_BYTES == buffers.free_bytes
    buffers.trim(0)
    assert 0 == buffers.free_bytes


def test_a_block_is_whole_pages_for_direct_io():
    assert 4096 == len(Buffers().take(1).pages)
    assert 8192 == len(Buffers().take(4097).pages)


async def test_what_a_thread_lands_while_a_reader_turns_to_waiting_is_noticed():
    """Many times over, for the moment that could be missed is short."""
    for _ in range(200):
        flight = Flight(BlockKey(1, 0), Urgency.DEMAND, Tier.NETWORK, 0.0, 1.0)
        flight.block = Buffers().take(100)
        token = trio.lowlevel.current_trio_token()

        def land(flight=flight, token=token):
            flight.block.filled_bytes = 100
            if flight.waiting:
                token.run_sync_soon(flight.wake, idempotent=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, land)
            with trio.fail_after(5):
                await flight.reach(100)


async def test_what_landed_before_a_failure_is_still_given():
    flight = Flight(BlockKey(1, 0), Urgency.DEMAND, Tier.NETWORK, 0.0, 1.0)
    flight.block = Buffers().take(100)
    flight.block.filled_bytes = 50
    flight.error = SourceUnavailable("reset")

    await flight.reach(50)
    with pytest.raises(SourceUnavailable):
        await flight.reach(51)
