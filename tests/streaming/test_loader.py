import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from lazyfs.core.blob import BlockKey, ByteRange
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.plan import Policy
from lazyfs.errors import SourceUnavailable
from lazyfs.streaming.flight import Tier
from lazyfs.streaming.lanes import DEMAND_LANES
from lazyfs.streaming.loader import ANY_IDLE_S, STORED_IDLE_S
from lazyfs.telemetry import metrics
from tests.streaming.rig import BLOCK, Rig, until

A, B = 16, 17


@pytest.fixture
def contents(pattern_bytes):
    return {A: pattern_bytes(25 * BLOCK, 1), B: pattern_bytes(3 * BLOCK + 100, 2)}


async def test_36_readers_of_25_blocks_make_25_requests(contents):
    rig = Rig(contents)
    async with rig.running():

        async def scan(start):
            for step in range(25):
                index = (start + step) % 25
                assert rig.expected(A, index) == await rig.read(A, index)

        async with trio.open_nursery() as readers:
            for number in range(36):
                readers.start_soon(scan, number % 5)

    assert {BlockKey(A, index): 1 for index in range(25)} == rig.fetcher.fetched


async def test_a_cancelled_reader_takes_nobodys_block_away(contents):
    rig = Rig(contents)
    go = trio.Event()
    rig.fetcher.network = lambda _flight: go.wait()
    async with rig.running(), trio.open_nursery() as readers:
        with trio.CancelScope() as scope:
            readers.start_soon(rig.read, A, 0)
            await wait_all_tasks_blocked()
            scope.cancel()
            await rig.read(A, 0)
        assert scope.cancelled_caught
        go.set()

    assert 1 == rig.fetcher.fetched[BlockKey(A, 0)]


async def test_a_reader_does_not_wait_for_speculation_to_end(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=3)
    never = trio.Event()

    async def stuck_unless_demanded(flight):
        if flight.urgency is not Urgency.DEMAND:
            await never.wait()

    rig.fetcher.network = stuck_unless_demanded
    async with rig.running():
        await wait_all_tasks_blocked()
        assert 3 == rig.fetcher.flying

        for index in (20, 21, 22, 23, 24):
            assert rig.expected(A, index) == await rig.read(A, index)

        assert 3 == rig.fetcher.flying


async def test_speculation_uses_no_more_than_its_connections_and_demand_a_few_more(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=3)
    never = trio.Event()
    rig.fetcher.network = lambda _flight: never.wait()
    async with rig.running() as nursery:
        await wait_all_tasks_blocked()
        assert 3 == rig.fetcher.flying_max
        for index in range(10, 25):
            nursery.start_soon(rig.read, A, index)
        await wait_all_tasks_blocked()
        assert 3 + DEMAND_LANES == rig.fetcher.flying_max


async def test_demand_goes_ahead_of_read_ahead_and_read_ahead_of_warm_up(contents):
    rig = Rig(contents, policy=Policy.MODEL, connections=1)
    gate = trio.Semaphore(0)
    rig.fetcher.network = lambda _flight: gate.acquire()
    async with rig.running() as nursery:
        await wait_all_tasks_blocked()
        rig.loader.hint([BlockKey(A, 9)], Urgency.READAHEAD)
        for index in range(DEMAND_LANES):
            nursery.start_soon(rig.read, B, 0, 1) if index == 0 else rig.loader.demand(
                BlockKey(A, 20 + index), 1
            )
        rig.loader.demand(BlockKey(A, 15), 1)
        await wait_all_tasks_blocked()
        for _ in range(8):
            gate.release()
            await wait_all_tasks_blocked()

    order = rig.fetcher.order
    assert order.index(BlockKey(A, 15)) < order.index(BlockKey(A, 9)) < order.index(BlockKey(A, 1))


async def test_a_reader_gets_the_front_of_a_block_before_the_rest_has_come(contents):
    rig = Rig(contents)
    rest = trio.Event()

    async def half(flight):
        rig.fetcher.fill(flight, BLOCK // 2)
        await rest.wait()

    rig.fetcher.network = half
    async with rig.running() as nursery:
        assert contents[A][:100] == await rig.read(A, 0, 100)

        nursery.start_soon(rig.read, A, 0, BLOCK // 2 + 1)
        await wait_all_tasks_blocked()
        assert 1 == rig.loader.traffic.oldest_wait().flight.waiting
        rest.set()
        assert rig.expected(A, 0) == await rig.read(A, 0)

    assert 1 == rig.fetcher.fetched[BlockKey(A, 0)]


# -- memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("memory_blocks", [1, 2, 5, 8])
async def test_any_budget_gets_a_scan_through_and_is_kept(contents, memory_blocks, store):
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=memory_blocks, store=store)
    async with rig.running():
        for index in range(25):
            assert rig.expected(A, index) == await rig.read(A, index)
            rig.loader.served(BlockKey(A, index), BLOCK)
            assert rig.ledger.used_bytes <= memory_blocks * BLOCK


async def test_warm_up_goes_on_at_full_rate_without_a_reader_when_blocks_are_stored(contents):
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=4, connections=2, store=True)
    async with rig.running():
        await until(lambda: len(rig.fetcher.stored) == 29)

    assert set(rig.fetcher.fetched.values()) == {1}


async def test_warm_up_that_cannot_be_stored_stops_at_the_budget_and_follows_a_reader(contents):
    rig = Rig(contents, policy=Policy.MODEL, memory_blocks=8)
    async with rig.running():
        await wait_all_tasks_blocked()
        assert 7 == len(rig.fetcher.fetched)
        for index in range(25):
            assert rig.expected(A, index) == await rig.read(A, index)
            rig.loader.served(BlockKey(A, index), BLOCK)
            await wait_all_tasks_blocked()

    assert {1} == {count for key, count in rig.fetcher.fetched.items() if key.inode == A}


async def test_a_slow_disk_is_not_in_a_readers_way(contents):
    """Blocks that are read and wait to be written leave for a reader; they are counted, not stored."""
    rig = Rig(contents, memory_blocks=8, store=True)
    rig.writer.run = trio.sleep_forever  # the disk never gets to it
    async with rig.running():
        for index in range(25):
            assert rig.expected(A, index) == await rig.read(A, index)
            rig.loader.served(BlockKey(A, index), BLOCK)

    assert rig.meter.value(metrics.BLOCKS_DECLINED, "memory") >= 17


async def test_what_the_store_declines_is_served_and_counted_by_reason(contents):
    rig = Rig(contents, store=True)
    rig.outcome = "over_budget"
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)
        await until(lambda: rig.meter.value(metrics.BLOCKS_DECLINED, "over_budget") == 1)


async def test_memory_falls_back_after_a_load(contents, mock_clock):
    rig = Rig(contents)
    rig.fetcher.stored = {BlockKey(A, index): rig.expected(A, index) for index in range(10)}
    async with rig.running():
        for index in range(20):
            await rig.read(A, index)
        assert 20 * BLOCK == rig.ledger.used_bytes
        await trio.sleep(STORED_IDLE_S + 2)
        assert 10 * BLOCK == rig.ledger.used_bytes
        await trio.sleep(ANY_IDLE_S)
        assert 0 == rig.ledger.used_bytes
        assert rig.expected(A, 3) == await rig.read(A, 3)


async def test_warm_up_comes_back_to_a_block_that_failed(contents, mock_clock, caplog):
    rig = Rig(contents, policy=Policy.MODEL, deadline_s=10.0)
    down = True

    async def maybe(_flight):
        if down:
            raise SourceUnavailable("away")

    rig.fetcher.network = maybe
    async with rig.running():
        await trio.sleep(60)
        assert 0 == rig.loader.keeper.landed_bytes
        down = False
        await trio.sleep(60)

    assert sum(map(len, contents.values())) == rig.loader.keeper.landed_bytes
    caplog.clear()


test_warm_up_comes_back_to_a_block_that_failed = pytest.mark.logs("fetch_failed")(
    test_warm_up_comes_back_to_a_block_that_failed
)


async def test_the_oldest_wait_is_told_and_gone_when_it_is_over(contents):
    rig = Rig(contents)
    go = trio.Event()
    rig.fetcher.network = lambda _flight: go.wait()
    async with rig.running() as nursery:
        assert rig.loader.traffic.oldest_wait() is None
        nursery.start_soon(rig.read, A, 0)
        await wait_all_tasks_blocked()
        nursery.start_soon(rig.read, A, 1)
        await wait_all_tasks_blocked()

        flight = rig.loader.traffic.oldest_wait().flight
        assert (BlockKey(A, 0), Tier.NETWORK) == (flight.key, flight.tier)

        go.set()
        await rig.read(A, 1)
        await wait_all_tasks_blocked()
        assert rig.loader.traffic.oldest_wait() is None


async def test_a_loader_rests_when_nobody_has_read_for_a_while(pattern_bytes, mock_clock):
    rig = Rig({A: pattern_bytes(4 * BLOCK)})
    async with rig.running():
        assert rig.loader.traffic.resting()
        for index in range(4):
            await rig.reader.read(A, ByteRange(index * BLOCK, (index + 1) * BLOCK))
        await trio.sleep(0.9)
        assert not rig.loader.traffic.resting()
        await trio.sleep(0.2)
        assert rig.loader.traffic.resting()
