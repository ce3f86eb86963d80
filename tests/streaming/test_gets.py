"""Second requests, with real sockets and threads: who is late is overtaken, and nothing wrong comes of it."""

import time

import pytest
import trio

from lazyfs.core.blob import BlockKey
from lazyfs.core.hedging import Hedging
from lazyfs.core.location import Location
from lazyfs.demo.link import Link
from lazyfs.errors import AccessDenied, BlobChanged, SourceUnavailable
from lazyfs.telemetry import metrics
from lazyfs.transport.connection import Patience
from lazyfs.transport.line import Line
from tests.faults.blackhole import black_hole
from tests.faults.server import Behaviour, FaultServer
from tests.streaming.rig import until
from tests.streaming.test_fetcher import BLOCK, Rig

BLOCKS = 40
PATIENT = Patience(connect_s=8.0, first_byte_s=8.0, stall_s=8.0)
IN_TIME_S = 2.0
"""A reader that got its bytes by then did not wait for a time-out."""
SLOW = Behaviour(delay_s=5.0)


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(BLOCKS * BLOCK))
    yield found
    found.close()


@pytest.fixture
def rig(server):
    return Rig(server, PATIENT)


@pytest.fixture
def one_hedge(monkeypatch):
    allowed = [True]
    monkeypatch.setattr(Hedging, "take", lambda _self: bool(allowed) and allowed.pop())


async def read(rig, index, *, waits=True):
    """Fly a block as the loader would, with a reader that waits for it; return its flight."""
    flight = rig.flight(index)
    async with trio.open_nursery() as nursery:
        if waits:
            nursery.start_soon(flight.reach, flight.block.size_bytes)
            await trio.testing.wait_all_tasks_blocked()
        try:
            await rig.fetcher.from_network(flight)
            assert rig.server.content[index * BLOCK : (index + 1) * BLOCK] == bytes(
                flight.block.cut(0, BLOCK)
            )
        finally:
            nursery.cancel_scope.cancel()
    return flight


async def learn(rig, count=10):
    """Have it see what is normal."""
    for index in range(count):
        await read(rig, index, waits=False)


def hedges(rig):
    return rig.meter.value(metrics.HEDGES), rig.meter.value(metrics.HEDGES_WON)


@pytest.mark.parametrize(
    "how",
    [
        SLOW,
        Behaviour(stall_after=0),
        Behaviour(stall_after=1),
        Behaviour(stall_after=BLOCK // 2),
        Behaviour(stall_after=BLOCK - 1),
        Behaviour(trickle_s=0.05),
        Behaviour(head_trickle_s=0.05),
    ],
    ids=["no head", "no byte", "one byte", "half", "all but one", "a drip", "a head that drips"],
)
async def test_a_request_that_is_late_for_a_reader_is_overtaken(rig, server, how):
    async with rig.running():
        await learn(rig)
        server.script = [how]
        began_s = time.monotonic()

        await read(rig, 20)

        assert time.monotonic() - began_s < IN_TIME_S
        assert (1, 1) == hedges(rig)
        first, second = server.spans()[-2:]
        assert (20 * BLOCK, 21 * BLOCK) == first
        assert (first[1], True) == (second[1], second[0] >= first[0])
        assert server.asked[-1].connection != server.asked[-2].connection


async def test_a_connection_that_is_not_answered_is_overtaken(rig, server, monkeypatch):
    async with rig.running():
        await learn(rig)
        server.drop_connections()
        await until(lambda: not server.open_count)
        dial = Line.dial
        with black_hole() as dead:
            ports = iter([dead])
            monkeypatch.setattr(
                Line, "dial", lambda line, host, port, *how: dial(line, host, next(ports, port), *how)
            )
            began_s = time.monotonic()
            await read(rig, 20)
            assert time.monotonic() - began_s < IN_TIME_S

    assert (1, 1) == hedges(rig)


async def test_what_nobody_waits_for_is_not_asked_for_twice(rig, server):
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(delay_s=0.5)]
        await read(rig, 20, waits=False)

    assert (0, 0) == hedges(rig)
    assert 11 == len(server.asked)


async def test_a_reader_that_comes_when_it_is_late_already_gets_a_second_request_at_once(rig, server):
    async with rig.running() as nursery:
        await learn(rig)
        server.script = [SLOW]
        flight = rig.flight(20)
        nursery.start_soon(rig.fetcher.from_network, flight)
        await trio.sleep(0.3)
        assert (0, 0) == hedges(rig)
        with trio.fail_after(IN_TIME_S):
            await flight.reach(BLOCK)

    assert (1, 1) == hedges(rig)


async def test_a_location_that_has_expired_meanwhile_is_not_used_for_a_second_request(rig, server):
    async with rig.running():
        await learn(rig)
        rig.locate = lambda _blob: Location(server.url("/a"), expires_at_s=time.time() + 0.01)
        rig.locator.refuse(16, rig.location)
        server.script = [Behaviour(delay_s=0.5)]
        await read(rig, 20)

    assert (0, 0) == hedges(rig)


async def test_the_first_may_win(rig, server, one_hedge):
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(delay_s=0.4), SLOW]
        await read(rig, 20)
        await until(lambda: server.open_count <= 2)

    assert (1, 0) == hedges(rig)


async def test_what_a_loser_has_brought_is_counted(rig, server, one_hedge):
    """It sends the whole object, so it never gets to what is missing."""
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(delay_s=0.4), Behaviour(ignore_range=True, stall_after=2 * BLOCK)]
        await read(rig, 20)
        await until(lambda: rig.meter.value(metrics.FETCH_BYTES, "network") == 2 * BLOCK)

    assert (1, 0) == hedges(rig)


async def test_bytes_of_the_first_that_the_second_brought_again_are_counted(rig, server):
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(stall_after=BLOCK // 2)]
        flight = await read(rig, 20)
        await trio.sleep(0.1)
        brought = BLOCK // 2 + server.spans()[-1][1] - server.spans()[-1][0]

    assert BLOCK == flight.filled_bytes
    assert brought - BLOCK == rig.meter.value(metrics.FETCH_BYTES, "network")


async def test_a_second_request_writes_nothing_where_the_first_does(rig, server, one_hedge):
    """Of a whole object, what lies before the range is read over into the buffer: it must be its own."""
    async with rig.running():
        await learn(rig)
        server.script = [
            Behaviour(stall_after=BLOCK // 2),
            Behaviour(ignore_range=True, stall_after=3 * BLOCK),
        ]
        flight = rig.flight(20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.fetcher.from_network, flight)
            nursery.start_soon(flight.reach, BLOCK)
            await until(lambda: len(server.asked) == 12)
            await trio.sleep(0.2)
            expected = server.content[20 * BLOCK : 21 * BLOCK]
            written = bytes(flight.block.pages[:BLOCK]).rstrip(b"\0")
            assert len(written) >= flight.filled_bytes > 0
            assert expected[: len(written)] == written
            nursery.cancel_scope.cancel()


async def test_a_server_that_ignores_ranges_is_not_asked_twice(rig, server):
    server.behave = lambda _asked: Behaviour(ignore_range=True)
    async with rig.running():
        await learn(rig, 3)
        server.behave = lambda _asked: Behaviour(ignore_range=True, delay_s=0.5)
        await read(rig, 3)

    assert (0, 0) == hedges(rig)


async def test_memory_of_a_loser_is_given_to_nobody_while_its_thread_may_write(rig, server):
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(stall_after=BLOCK // 2)]
        flight = rig.flight(20)
        before, buffer = flight.block, flight.block.buffer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flight.reach, BLOCK)
            await rig.fetcher.from_network(flight)

        assert before is not flight.block
        assert flight.block is rig.memory.peek(BlockKey(16, 20), BLOCK)
        assert buffer not in rig.memory.statistics().free


async def test_when_both_fail_it_is_one_error_and_what_landed_stays(rig, server, one_hedge):
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(stall_after=500_000), Behaviour(delay_s=0.2, status=500)]
        flight = rig.flight(20)
        async with trio.open_nursery() as readers:
            readers.start_soon(flight.reach, BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_failing, rig, flight)
                await until(lambda: rig.meter.value(metrics.ERRORS, "source_unavailable") == 1)
                server.drop_connections()
            landed = flight.filled_bytes
            assert 0 < landed <= 500_000
            assert server.content[20 * BLOCK : 20 * BLOCK + landed] == bytes(flight.block.cut(0, landed))
            await rig.fetcher.from_network(flight)
            flight.wake()
    assert server.content[20 * BLOCK : 21 * BLOCK] == bytes(flight.block.cut(0, BLOCK))


async def _failing(rig, flight):
    with pytest.raises(SourceUnavailable):
        await rig.fetcher.from_network(flight)


@pytest.mark.parametrize("landed", [1, 1000, BLOCK - 1])
async def test_a_second_request_that_overtakes_and_fails_at_once_is_the_flights_error(rig, server, landed):
    async with rig.running():
        await learn(rig)
        server.script = [SLOW, Behaviour(cut_after=landed)]
        began_s = time.monotonic()
        with pytest.raises(SourceUnavailable, match="early"):
            await _plain(read(rig, 20))
        assert time.monotonic() - began_s < IN_TIME_S


async def test_when_the_first_fails_the_second_goes_on(rig, server, one_hedge):
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(delay_s=0.3, status=500), Behaviour(delay_s=0.6)]
        await read(rig, 20)

    assert 1 == hedges(rig)[0]
    assert 1 == rig.meter.value(metrics.ERRORS, "source_unavailable")


@pytest.mark.parametrize(("status", "error"), [(412, BlobChanged), (403, AccessDenied)])
async def test_what_will_not_pass_ends_both_at_once(rig, server, status, error):
    async with rig.running():
        await learn(rig)
        first = iter([SLOW])
        server.behave = lambda _asked: next(first, Behaviour(status=status))
        began_s = time.monotonic()
        with pytest.raises(error):
            await _plain(read(rig, 20))

        assert time.monotonic() - began_s < IN_TIME_S


async def test_of_two_that_are_late_the_second_is_replaced(rig, server):
    async with rig.running():
        await learn(rig)
        server.script = [SLOW, SLOW]
        began_s = time.monotonic()
        await read(rig, 20)

        assert time.monotonic() - began_s < IN_TIME_S
    assert (2, 1) == hedges(rig)


async def test_there_are_no_more_than_a_few_per_cent(rig, server, monkeypatch):
    monkeypatch.setattr(Hedging, "take", lambda _self: False)
    async with rig.running():
        await learn(rig)
        server.script = [Behaviour(delay_s=0.5)]
        await read(rig, 20)

    assert (0, 0) == hedges(rig)


@pytest.mark.parametrize("waits", [True, False])
async def test_past_the_deadline_of_a_reader_a_silent_request_is_given_up(rig, server, monkeypatch, waits):
    monkeypatch.setattr(Hedging, "take", lambda _self: False)
    async with rig.running():
        server.script = [SLOW]
        flight = rig.flight(20)
        flight.deadline_at_s = trio.current_time() + 0.2
        async with trio.open_nursery() as nursery:
            if waits:  # otherwise it has gone already
                nursery.start_soon(flight.reach, BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            began_s = time.monotonic()
            with pytest.raises(SourceUnavailable, match="deadline"):
                await rig.fetcher.from_network(flight)
            assert time.monotonic() - began_s < IN_TIME_S
            nursery.cancel_scope.cancel()


async def test_threads_and_connections_of_losers_do_not_pile_up(rig, server):
    async with rig.running():
        await learn(rig)
        for index in range(10, 18):
            server.script = [SLOW]
            await read(rig, index)
        await until(lambda: rig.gets.statistics().threads == 0)
        await until(lambda: server.open_count <= 3)

    assert 8 == hedges(rig)[0]


async def test_on_a_slow_link_that_many_share_nothing_is_asked_for_twice(rig, server):
    link = Link(("127.0.0.1", server.port), rate_bytes_per_s=4 * BLOCK)
    rig.locate = lambda _blob: Location(f"http://127.0.0.1:{link.port}/a")
    async with rig.running(), trio.open_nursery() as readers:
        for index in range(8):
            readers.start_soon(read, rig, index)
    link.close()

    assert (0, 0) == hedges(rig)
    assert 8 == len(server.asked)


async def _plain(reading):
    """Raise the one error of a group as it is."""
    try:
        await reading
    except* Exception as group:
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            (found,) = found.exceptions
        raise found from None
