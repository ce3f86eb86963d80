"""A disk that hangs, or takes no blocks: readers go on, memory is safe, what was declined is kept later."""

import threading
import time

import pytest
import trio

from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, ByteRange, Grid
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.location import Location
from lazyfs.core.plan import Policy
from lazyfs.errors import BlockUnreadable
from lazyfs.streaming import disk as streaming_disk
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.flight import Buffers, Flight, Tier
from lazyfs.streaming.lanes import DISK_LANES
from lazyfs.streaming.locator import Locator
from lazyfs.streaming.writer import WRITERS
from lazyfs.telemetry import metrics
from lazyfs.telemetry.metrics import Meter
from tests.streaming.rig import BLOCK, Rig

A = 16


@pytest.fixture
def contents(pattern_bytes):
    return {A: pattern_bytes(6 * BLOCK)}


class Hanging:
    """A disk whose reads do not return before `released` is set, and then fill the memory they were given."""

    def __init__(self):
        self.readable, self.released = True, threading.Event()
        self.hung, self.ended, self.asked = [], threading.Semaphore(0), 0

    def read(self, key, into):
        self.asked += 1
        self.released.wait()
        into[:] = b"\xee" * len(into)
        self.ended.release()

    def read_hung(self, key, seconds):
        self.hung.append((key, seconds))


class Reading:
    """A real fetcher of blocks of such a disk."""

    def __init__(self):
        refs = {A: BlobRef("a", "o", "v", 100 * PAGE_BYTES)}
        self.disk, self.buffers = Hanging(), Buffers(reuse_from_bytes=PAGE_BYTES)
        blobs = Blobs(refs, Grid(PAGE_BYTES))
        locator = Locator(refs, lambda blob: Location(blob.name))
        self.fetcher = Fetcher(blobs, locator, self.disk, None, None, Meter())  # it never asks the network
        self.limiter = trio.CapacityLimiter(DISK_LANES)

    async def read(self, index):
        """Return the flight of a read that must fail."""
        flight = Flight(BlockKey(A, index), Urgency.DEMAND, Tier.DISK, 0.0, 60.0)
        flight.block = self.buffers.take(PAGE_BYTES)
        with pytest.raises(BlockUnreadable):
            await self.fetcher.from_disk(flight, self.limiter)
        assert 0 == flight.filled_bytes
        return flight


async def test_a_read_that_hangs_is_given_up_and_its_memory_is_nobodys(mock_clock):
    rig = Reading()
    began = trio.current_time()
    flight = await rig.read(0)

    assert streaming_disk.READ_PATIENCE_S <= trio.current_time() - began < streaming_disk.READ_PATIENCE_S + 1
    assert flight.tainted
    assert [BlockKey(A, 0)] == [key for key, _ in rig.disk.hung]
    left = flight.block.buffer
    rig.buffers.give(flight.block)
    assert rig.buffers.take(PAGE_BYTES).buffer is not left

    rig.disk.released.set()
    assert rig.disk.ended.acquire(timeout=5)
    assert b"\xee" * PAGE_BYTES == left[:]


async def test_no_more_reads_hang_than_there_are_disk_lanes(mock_clock):
    rig = Reading()
    for index in range(DISK_LANES):
        await rig.read(index)
    before = trio.current_time()

    flight = await rig.read(DISK_LANES)

    assert before == trio.current_time()
    assert not flight.tainted
    rig.disk.released.set()
    assert all(rig.disk.ended.acquire(timeout=5) for _ in range(DISK_LANES))
    assert DISK_LANES == rig.disk.asked


async def test_a_disk_that_is_not_read_for_now_is_not_asked(mock_clock):
    rig = Reading()
    rig.disk.readable = False

    assert not (await rig.read(0)).tainted
    assert 0 == rig.disk.asked


@pytest.mark.parametrize("tainted", [False, True])
async def test_what_the_disk_does_not_give_comes_from_the_network_and_is_no_repair(contents, tainted):
    rig = Rig(contents, memory_blocks=2, store=True)
    rig.fetcher.stored[BlockKey(A, 1)] = rig.expected(A, 1)
    seen = []

    async def refuse(flight):
        seen.append(flight.block)
        flight.tainted = tainted
        raise BlockUnreadable("no")

    rig.fetcher.disk = refuse
    async with rig.running():
        for index in (1, 0, 2, 3, 1):
            assert rig.expected(A, index) == await rig.read(A, index)

    assert 1 <= rig.fetcher.fetched[BlockKey(A, 1)] == len(seen)
    assert 0 == rig.meter.value(metrics.BLOCKS_REPAIRED) == rig.meter.total(metrics.ERRORS)
    assert rig.ledger.used_bytes <= 2 * BLOCK


async def test_the_memory_of_a_tainted_block_is_not_that_of_the_block_that_is_fetched(contents):
    rig = Rig(contents, memory_blocks=2, store=True)
    rig.fetcher.stored[BlockKey(A, 0)] = rig.expected(A, 0)
    held = []

    async def hang(flight):
        held.append(flight.block.pages[:])
        flight.tainted = True
        raise BlockUnreadable("no")

    rig.fetcher.disk = hang
    async with rig.running():
        with rig.loader.waits.begin(A, ByteRange(0, BLOCK)) as wait:
            block = await rig.loader.load(BlockKey(A, 0), BLOCK, wait)
        held[0][:] = b"\xee" * len(held[0])  # the thread that was left behind

        assert rig.expected(A, 0) == bytes(block.cut(0, BLOCK))


async def test_a_write_that_hangs_holds_up_nobody_for_long(contents, mock_clock):
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=8, store=True)
    released, asked = threading.Event(), []

    def hang(key, content):
        asked.append(key)
        released.wait()
        return "disk_trouble"

    rig.write = hang
    async with rig.running():
        for index in range(6):
            assert rig.expected(A, index) == await rig.read(A, index)
        while len(asked) < WRITERS:  # threads begin when the machine has time for them, by no mock clock
            await trio.to_thread.run_sync(time.sleep, 0.01)
        await trio.sleep(2 * streaming_disk.WRITE_PATIENCE_S)

        assert WRITERS == len(asked) == rig.hung_writes
        assert 6 == rig.meter.value(metrics.BLOCKS_DECLINED, "disk_trouble")
        rig.writable = True  # though no thread is left
        await trio.sleep(streaming_disk.WRITE_PATIENCE_S)
        assert WRITERS == len(asked)
        released.set()


async def test_what_the_disk_would_not_take_is_stored_once_it_will(contents, autojump_soon):
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=3, store=True)
    rig.outcome = "disk_trouble"
    rig.writable = False
    async with rig.running():
        for index in range(6):
            assert rig.expected(A, index) == await rig.read(A, index)
        assert not rig.fetcher.stored

        rig.outcome, rig.writable = "stored", True
        while len(rig.fetcher.stored) < 6:
            await trio.sleep(0.5)

    assert all(rig.expected(A, index) == rig.fetcher.stored[BlockKey(A, index)] for index in range(6))


async def test_a_disk_that_is_tried_and_fails_is_not_given_all_that_was_declined(contents, autojump_soon):
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=8, store=True)
    rig.outcome, asked = "disk_trouble", []

    def refuse(key, content):
        asked.append(key)
        rig.writable = False
        return rig.outcome

    rig.write = refuse
    async with rig.running():
        for index in range(6):
            await rig.read(A, index)
        while rig.meter.value(metrics.BLOCKS_DECLINED, "disk_trouble") < 6:
            await trio.sleep(0.1)
        for _ in range(3):
            before, rig.writable = len(asked), True
            while rig.writable:
                await trio.sleep(0.1)
            await trio.sleep(2.0)
            assert 1 <= len(asked) - before <= 2  # a second may be asked before the first is refused
    assert 6 == rig.fetcher.fetched.total()


@pytest.fixture
def autojump_soon(monkeypatch):
    """The loader's tick, shortened: threads do real work here, so the clock is the real one."""
    monkeypatch.setattr("lazyfs.streaming.loader.TICK_S", 0.02)
    sleep = trio.sleep
    monkeypatch.setattr(trio, "sleep", lambda seconds: sleep(seconds / 20))


async def test_a_block_that_is_cancelled_for_memory_is_told_to_the_disk(contents):
    rig = Rig(contents, memory_blocks=1, store=True)
    asked = threading.Event()
    rig.write = lambda key, content: (asked.wait(0.05), "stored")[1]
    async with rig.running():
        for index in range(6):
            await rig.read(A, index)

    assert 0 < rig.fell_behind_count == rig.meter.value(metrics.BLOCKS_DECLINED, "memory")
