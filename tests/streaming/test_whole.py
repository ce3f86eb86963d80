"""Flights from a server that knows no ranges: they meet at one stream, and patience is with the stream."""

import pytest
import trio

from lazyfs.errors import SourceUnavailable
from lazyfs.telemetry import metrics
from lazyfs.transport.connection import Patience
from lazyfs.transport.whole import Wholes
from tests.faults.server import Behaviour, FaultServer
from tests.streaming.test_fetcher import BLOCK, Rig

BLOCKS = 12
PATIENCE = Patience(connect_s=2.0, first_byte_s=2.0, stall_s=1.0)

pytestmark = pytest.mark.logs("ranges_not_served")


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(BLOCKS * BLOCK))
    found.behave = lambda _asked: Behaviour(ignore_range=True)
    yield found
    found.close()


@pytest.fixture
def rig(server):
    return Rig(server, PATIENCE, Wholes(None, PATIENCE))


async def read(rig, index, deadline_s=60.0):
    flight = rig.flight(index)
    flight.deadline_at_s = trio.current_time() + deadline_s
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flight.reach, flight.block.size_bytes)
        await rig.fetcher.from_network(flight)
        flight.wake()
    assert rig.server.content[index * BLOCK : (index + 1) * BLOCK] == bytes(flight.block.cut(0, BLOCK))


async def test_all_flights_share_one_request(rig, server):
    async with rig.running():
        await read(rig, 5)
        async with trio.open_nursery() as nursery:
            for index in set(range(BLOCKS)) - {5}:
                nursery.start_soon(read, rig, index)

    assert 1 == len(server.gets)
    assert 1 == rig.meter.value(metrics.RANGES_IGNORED)


async def test_a_wait_for_what_lies_before_is_neither_hedged_nor_given_up(rig, server):
    server.behave = lambda _asked: Behaviour(ignore_range=True, trickle_s=0.2, trickle_bytes=BLOCK)
    async with rig.running():
        await read(rig, BLOCKS - 1, deadline_s=0.1)

    assert 1 == len(server.gets)
    assert 0 == rig.meter.value(metrics.HEDGES)


async def test_a_stream_that_stalls_is_the_flights_error(rig, server):
    server.behave = lambda _asked: Behaviour(ignore_range=True, stall_after=BLOCK)
    async with rig.running():
        with pytest.raises(SourceUnavailable):
            await rig.fetcher.from_network(rig.flight(BLOCKS - 1))


async def test_heads_cost_all_once_an_object_has_come_whole(rig, server):
    assert not rig.fetcher.heads_cost_all
    async with rig.running():
        await read(rig, 0)
        assert rig.fetcher.heads_cost_all
