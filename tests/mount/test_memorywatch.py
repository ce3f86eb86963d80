"""The budget follows what memory is left."""

import pytest
import trio

from lazyfs.core.blob import BlockKey
from lazyfs.core.memorybudget import RESERVE_BYTES
from lazyfs.core.plan import Policy
from lazyfs.mount import memorywatch
from lazyfs.mount.memorywatch import MemoryWatch
from lazyfs.telemetry import metrics
from tests.streaming.rig import BLOCK, Rig

A = 16
BLOCKS = 16


@pytest.fixture
def rig(pattern_bytes, monkeypatch):
    monkeypatch.setattr("lazyfs.core.memorybudget.BYTES_MIN", BLOCK)
    return Rig({A: pattern_bytes(30 * BLOCK)}, memory_blocks=BLOCKS, policy=Policy.MODEL, store=True)


@pytest.mark.logs("memory_squeezed")
async def test_speculation_leaves_when_memory_becomes_scarce_and_readers_go_on(rig):
    rig.outcome = "over_budget"  # nothing may leave for warm-up
    watch = MemoryWatch(BLOCKS * BLOCK, BLOCK, rig.loader)
    async with rig.running():
        while rig.ledger.landed_bytes < (BLOCKS - 3) * BLOCK:
            await trio.sleep(0.01)

        watch.follow(RESERVE_BYTES - 10 * BLOCK)

        assert rig.ledger.used_bytes <= rig.ledger.capacity_bytes <= (BLOCKS - 10) * BLOCK
        assert rig.memory.held_bytes <= rig.ledger.capacity_bytes + BLOCK
        for index in range(30):
            assert rig.expected(A, index) == await rig.read(A, index)
            assert rig.ledger.used_bytes <= rig.ledger.capacity_bytes

        watch.follow(RESERVE_BYTES + BLOCKS * BLOCK)
        assert BLOCKS * BLOCK == rig.ledger.capacity_bytes


@pytest.mark.logs("memory_squeezed")
async def test_a_block_that_leaves_before_it_was_written_comes_again(rig):
    rig.writer.run = trio.sleep_forever
    watch = MemoryWatch(BLOCKS * BLOCK, BLOCK, rig.loader)
    async with rig.running():
        for index in range(8):
            await rig.read(A, index)
        watch.follow(-BLOCKS * BLOCK)

        assert 0 < rig.meter.value(metrics.BLOCKS_DECLINED, "memory") == rig.fell_behind_count
        assert rig.expected(A, 0) == await rig.read(A, 0)
    assert BlockKey(A, 0) not in rig.fetcher.stored


@pytest.mark.logs("memory_squeezed")
async def test_a_squeeze_is_told_once(rig, mock_clock, caplog):
    watch = MemoryWatch(BLOCKS * BLOCK, BLOCK, rig.loader)
    for left_bytes in (RESERVE_BYTES + 2 * BLOCK, 10**12, 0):
        for _ in range(100):
            watch.follow(left_bytes)
            await trio.sleep(1)
        assert (BLOCKS * BLOCK == rig.ledger.capacity_bytes) == (left_bytes == 10**12)

    assert 2 == caplog.text.count("memory_squeezed")


@pytest.mark.logs("memory_squeezed")
async def test_it_looks_again_and_again_and_keeps_the_budget_where_nobody_knows(rig, monkeypatch):
    seen = [None, None, RESERVE_BYTES + 2 * BLOCK, 10**12]
    budgets = []
    monkeypatch.setattr(memorywatch, "LOOK_S", 0.0)
    monkeypatch.setattr(memorywatch, "_left_bytes", lambda: seen.pop(0) if seen else 10**12)
    monkeypatch.setattr(rig.loader, "resize", budgets.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(MemoryWatch(BLOCKS * BLOCK, BLOCK, rig.loader).run)
        while len(budgets) < 2:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

    assert [2 * BLOCK, BLOCKS * BLOCK] == budgets
