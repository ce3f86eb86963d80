"""Flights as the tower sees them; nothing is fetched."""

import pytest
import trio

from lazyfs.core.blob import BlockKey
from lazyfs.core.concurrency import ENOUGH, START, Concurrency
from lazyfs.core.fetchqueue import Urgency
from lazyfs.streaming.flight import Buffers, Flight, Tier
from lazyfs.streaming.tower import IdleShare, Tower

BLOCK = 1 << 20


def flights(count, urgency=Urgency.WARMUP):
    found = []
    for index in range(count):
        flight = Flight(BlockKey(100, index), urgency, Tier.NETWORK, 0.0, 60.0)
        flight.block = Buffers().take(BLOCK)
        found.append(flight)
    return found


def tower_of(limit):
    return Tower(Concurrency(BLOCK, limit, limit), BLOCK, lambda: None)


def test_it_is_full_when_as_many_blocks_are_in_the_air_as_the_limit_allows():
    tower, (first, second) = tower_of(2), flights(2)
    tower.enter(first)
    assert not tower.full
    tower.enter(second)
    assert tower.full
    tower.leave(first)
    assert not tower.full


async def test_where_bytes_come_fast_more_flights_may_board_and_room_is_told(mock_clock):
    mock_clock.autojump_threshold = 0
    told = []
    tower = Tower(Concurrency(BLOCK), BLOCK, lambda: told.append(True))
    found = flights(ENOUGH)
    for flight in found:
        tower.enter(flight)

    async def pour():
        while True:
            await trio.sleep(0.01)
            for flight in found:
                flight.block.filled_bytes += 1 << 20

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tower.run)
        nursery.start_soon(pour)
        await trio.sleep(0.2)
        nursery.cancel_scope.cancel()

    assert ENOUGH == tower.concurrency.limit
    assert told


async def test_a_source_that_wants_fewer_requests_gets_fewer():
    tower = Tower(Concurrency(BLOCK), BLOCK, lambda: None)

    tower.throttled()

    assert START // 2 == tower.concurrency.limit


@pytest.mark.parametrize(("idle_ticks", "expected"), [(10, False), (40, True)])
def test_the_share_of_idle_cpu_time_is_since_the_last_question(tmp_path, idle_ticks, expected):
    file = tmp_path / "stat"
    file.write_text("cpu 100 0 100 500 100 0 0 0 0 0\n")
    share = IdleShare(file)

    file.write_text(f"cpu {200 - idle_ticks} 0 100 {500 + idle_ticks} 100 0 0 0 0 0\n")

    assert expected is share.spare()
    assert share.spare() is False


def test_a_machine_that_does_not_tell_has_no_spare_cpu_time(tmp_path):
    file = tmp_path / "stat"
    file.write_text("cpu 1 2 3 4 5 6 7 8 9 10\n")
    share = IdleShare(file)
    file.unlink()

    assert share.spare() is False
