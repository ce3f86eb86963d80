from contextlib import asynccontextmanager

import pytest
import trio

from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, Grid
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.ledger import Ledger
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied, BadResponse, LocationLapsed, SourceUnavailable
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.breakers import Breakers
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.flight import Flight, Tier
from lazyfs.streaming.gets import Gets
from lazyfs.streaming.locator import Locator
from lazyfs.telemetry import metrics
from lazyfs.telemetry.metrics import Meter
from tests.faults.server import Behaviour, FaultServer

BLOCK = 256 * PAGE_BYTES


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(3 * BLOCK + 77))
    yield found
    found.close()


LANES = 40


class Rig:
    def __init__(self, server, patience=None, wholes=None):
        refs = {16: BlobRef("a", "o", "v", len(server.content))}
        self.located = []
        self.server = server
        self.meter = Meter()
        self.memory, self.breakers = BlockMemory(Ledger(100 * BLOCK)), Breakers()
        self.gets = Gets(self.memory, self.breakers, self.meter, LANES, patience, wholes)
        self.locator = Locator(refs, self._located)
        self.fetcher = Fetcher(
            Blobs(refs, Grid(BLOCK)), self.locator, None, self.gets, self.breakers, self.meter
        )

    def _located(self, blob):
        return self.locate(blob)  # which a test may have replaced

    def locate(self, blob):
        self.located.append(blob.name)
        self.location = Location(self.server.url(f"/a?signature={len(self.located)}"))
        return self.location

    def flight(self, index):
        flight = Flight(BlockKey(16, index), Urgency.DEMAND, Tier.NETWORK, 0.0, trio.current_time() + 60.0)
        size_bytes = min(BLOCK, len(self.server.content) - index * BLOCK)
        self.memory.admit(flight.key, size_bytes, Urgency.DEMAND)
        flight.block = self.memory.take(flight.key, size_bytes)
        return flight

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.fetcher.run)
            yield nursery
            nursery.cancel_scope.cancel()

    async def fly(self, flight):
        await self.fetcher.from_network(flight)
        return bytes(flight.block.cut(0, flight.block.size_bytes))


async def test_a_flight_is_one_ranged_get_and_one_location_serves_them_all(server):
    rig = Rig(server)
    for index in range(4):
        assert server.content[index * BLOCK : (index + 1) * BLOCK] == await rig.fly(rig.flight(index))
    rig.gets.close()

    assert [
        (0, BLOCK),
        (BLOCK, 2 * BLOCK),
        (2 * BLOCK, 3 * BLOCK),
        (3 * BLOCK, 3 * BLOCK + 77),
    ] == server.spans()
    assert ["a"] == rig.located


async def test_a_refused_location_is_renewed_once_and_the_flight_goes_on(server):
    rig = Rig(server)
    server.script = [Behaviour(status=403)]

    assert server.content[:BLOCK] == await rig.fly(rig.flight(0))
    rig.gets.close()

    assert ["/a?signature=1", "/a?signature=2"] == [asked.path for asked in server.asked]


async def test_a_location_refused_again_is_denied_and_no_third_is_asked_for(server):
    rig = Rig(server)
    server.behave = lambda _asked: Behaviour(status=403)

    with pytest.raises(AccessDenied):
        await rig.fly(rig.flight(0))
    rig.gets.close()

    assert 2 == len(rig.located) == len(server.asked)


async def test_a_location_refused_for_expired_credentials_is_asked_for_again_and_again(server):
    rig = Rig(server)
    server.script = [Behaviour(status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")] * 5
    flight = rig.flight(0)
    for _ in range(2):
        with pytest.raises(LocationLapsed) as raised:
            await rig.fly(flight)
        assert raised.value.retryable

    assert server.content[:BLOCK] == await rig.fly(flight)
    rig.gets.close()
    assert 6 == len(rig.located)


async def test_a_flight_goes_on_where_it_was_cut_off(server):
    rig = Rig(server)
    server.script = [Behaviour(cut_after=BLOCK // 2)]
    flight = rig.flight(1)
    with pytest.raises(BadResponse):
        await rig.fly(flight)
    landed = flight.block.filled_bytes

    assert server.content[BLOCK : 2 * BLOCK] == await rig.fly(flight)
    rig.gets.close()
    assert landed > 0
    assert [(BLOCK, 2 * BLOCK), (BLOCK + landed, 2 * BLOCK)] == server.spans()


async def test_of_a_reply_without_a_length_nothing_counts_until_its_end(server):
    rig = Rig(server)
    head = (
        f"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nETag: {server.etag}\r\n"
        f"Content-Range: bytes 0-{BLOCK - 1}/{len(server.content)}\r\n\r\n{BLOCK:x}\r\n"
    )
    server.script = [Behaviour(raw=head.encode() + server.content[:BLOCK] + b"\r\n")]  # and no last chunk
    flight = rig.flight(0)
    with pytest.raises(SourceUnavailable):
        await rig.fly(flight)
    assert 0 == flight.block.filled_bytes

    assert server.content[:BLOCK] == await rig.fly(flight)
    rig.gets.close()
    assert [(0, BLOCK)] * 2 == server.spans()


async def test_waiters_hear_of_the_front_while_the_rest_is_on_its_way(server):
    rig = Rig(server)
    server.script = [Behaviour(stall_after=BLOCK // 2)]
    flight = rig.flight(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.fly, flight)
        # the head and what comes with it are reported at once, the rest in pieces
        await flight.reach(1)
        landed = flight.block.filled_bytes
        assert server.content[:landed] == bytes(flight.block.cut(0, landed))
        nursery.cancel_scope.cancel()


async def test_a_server_that_ignores_ranges_is_read_right_and_counted(server):
    rig = Rig(server)
    server.behave = lambda _asked: Behaviour(ignore_range=True)

    assert server.content[2 * BLOCK : 3 * BLOCK] == await rig.fly(rig.flight(2))
    rig.gets.close()

    assert 1 == rig.meter.value(metrics.RANGES_IGNORED)
