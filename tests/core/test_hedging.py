"""Requests on simulated links: none are late on a slow one, and one that stalls is found in time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.hedging import (
    BURST,
    FEW,
    FLOOR_S,
    PACE_BYTES,
    QUIET_S,
    SHARE,
    START_S,
    TAIL_MOST,
    WINDOW,
    Hedging,
    Tail,
    unseen,
)

TICK_S = 0.01
MIB = 1 << 20
BLOCK = 8 * MIB


class Link:
    """Connections that each begin a request when the last is done, and are looked at every tick."""

    def __init__(self, connections, bytes_per_s, first_byte_s=0.02, size=BLOCK, seed=0, uneven=0.0):
        self.hedging = Hedging()
        self.now_s = 100.0
        self.rate = bytes_per_s
        self.first_byte_s = first_byte_s
        self.size = size
        self.chance = random.Random(seed)
        self.uneven = uneven
        self.trips = [self.begin() for _ in range(connections)]
        self.stalled = {}
        """How much they will ever bring."""
        self.late = 0
        self.durations = []

    def begin(self):
        return self.hedging.begin(self.now_s, self.size)

    def step(self):
        """Let a tick pass: those that may receive share the link."""
        self.now_s += TICK_S
        going = [
            trip
            for trip in self.trips
            if trip.received_bytes < self.stalled.get(trip, self.size)
            and self.now_s - trip.began_at_s >= self.first_byte_s
        ]
        for trip in going:
            share = self.rate * TICK_S / len(going) * self.chance.uniform(1 - self.uneven, 1 + self.uneven)
            most = self.stalled.get(trip, self.size)
            trip.landed(self.now_s, min(most, trip.received_bytes + int(share)))
        self.hedging.look(self.now_s)
        self.late += sum(map(self.hedging.late, self.trips))
        for place, trip in enumerate(self.trips):
            if trip.received_bytes == self.size:
                self.durations.append(self.now_s - trip.began_at_s)
                self.hedging.end(trip, complete=True)
                self.trips[place] = self.begin()

    def run(self, seconds):
        for _ in range(int(seconds / TICK_S)):
            self.step()

    def stall(self, at_bytes):
        """Have one request stall; return how long after its start it is late."""
        while not (trips := [trip for trip in self.trips if not trip.received_bytes]):
            self.step()
        trip = trips[0]
        self.stalled[trip] = at_bytes
        while not self.hedging.late(trip):
            self.step()
            assert self.now_s - trip.began_at_s < 100
        return self.now_s - trip.began_at_s


# -- the tail ------------------------------------------------------------------------------------------


def test_nothing_observed_is_no_limit():
    assert Tail().limit() is None


def test_of_many_one_in_a_hundred_is_beyond_the_limit():
    tail = Tail()
    for value in range(1, 201):
        tail.add(float(value))

    assert 198 * (1 + FEW / 200) == pytest.approx(tail.limit())


def test_of_few_the_slowest_is_not_slow():
    tail = Tail()
    tail.add(0.1)
    assert 0.1 * (1 + FEW) == pytest.approx(tail.limit())
    for _ in range(99):
        tail.add(0.1)
    assert 0.1 * (1 + FEW / 100) == pytest.approx(tail.limit())


def test_stalls_that_ended_do_not_excuse_the_next():
    tail = Tail()
    for number in range(200):
        tail.add(30.0 if number % 20 == 0 else 0.02)

    assert 0.02 * TAIL_MOST * (1 + FEW / 200) == pytest.approx(tail.limit())


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=3 * WINDOW))
def test_only_the_latest_count(values):
    tail, fresh = Tail(), Tail()
    for value in values:
        tail.add(value)
    for value in values[-WINDOW:]:
        fresh.add(value)

    assert fresh.limit() == tail.limit()


# -- when a request is late ----------------------------------------------------------------------------


@pytest.mark.parametrize("at_bytes", [0, 1, BLOCK // 2, BLOCK - 1])
@pytest.mark.parametrize(("connections", "bytes_per_s"), [(16, 1440e6), (16, 100e6), (4, 10e6), (1, 90e6)])
def test_a_request_that_stalls_is_late_when_it_should_be_over(connections, bytes_per_s, at_bytes):
    link = Link(connections, bytes_per_s, uneven=0.3)
    link.run(max(3.0, 5 * connections * BLOCK / bytes_per_s))
    p99 = sorted(link.durations)[-1 - len(link.durations) // 100]

    late_s = link.stall(at_bytes)

    assert late_s <= 1.3 * p99 + 3 * TICK_S


@pytest.mark.parametrize("first_byte_s", [0.0, 0.2])
@pytest.mark.parametrize("connections", [1, 4, 32])
@pytest.mark.parametrize("bytes_per_s", [1e5, 1e7, 1e8])
def test_on_a_slow_link_nothing_is_late(connections, bytes_per_s, first_byte_s):
    link = Link(connections, bytes_per_s, first_byte_s, uneven=0.5)

    link.run(20)

    assert 0 == link.late


@pytest.mark.parametrize("connections", [4, 16])
def test_when_the_link_becomes_slow_nothing_is_late(connections):
    link = Link(connections, 1e9)
    link.run(5)
    link.rate = 5e6
    link.run(20)

    assert 0 == link.late


def test_when_more_share_the_link_nothing_is_late():
    link = Link(4, 100e6)
    link.run(10)
    link.trips += [link.begin() for _ in range(28)]
    link.run(10)

    assert 0 == link.late


def test_a_request_that_trickles_is_late_though_it_is_never_silent():
    link = Link(16, 1440e6)
    link.run(2)
    trip = link.trips[0]
    link.stalled[trip] = 0
    began_s = link.now_s
    while not link.hedging.late(trip):
        trip.landed(link.now_s, trip.received_bytes + 1000)
        link.step()
        assert link.now_s - began_s < 1

    assert link.now_s - began_s < 0.3


def test_before_anything_is_known_a_request_is_late_after_a_while_of_silence():
    hedging = Hedging()
    silent, slow = hedging.begin(0.0, BLOCK), hedging.begin(0.0, BLOCK)
    late = []
    for tick in range(1, 300):
        slow.landed(tick * TICK_S, tick * 20_000)
        hedging.look(tick * TICK_S)
        late.append((hedging.late(silent), hedging.late(slow)))

    # What is known by then is how soon the other one got its first byte.
    first = late.index((True, False)) * TICK_S
    assert 1.0 < first < START_S
    assert (False, True) not in late
    assert (True, True) not in late


def test_alone_and_before_anything_is_known_it_is_the_same():
    hedging = Hedging()
    trip = hedging.begin(0.0, BLOCK)
    _watch(hedging, 0.0, START_S)
    assert not hedging.late(trip)
    _watch(hedging, START_S, START_S + 0.1)
    assert hedging.late(trip)


def test_a_body_that_stops_before_any_rate_is_known_is_late_after_a_while_of_silence():
    hedging = Hedging()
    trip = hedging.begin(0.0, BLOCK)
    trip.landed(0.02, 1000)
    _watch(hedging, 0.0, START_S)
    assert not hedging.late(trip)
    _watch(hedging, START_S, START_S + 0.2)
    assert hedging.late(trip)
    assert START_S < hedging.silent_s(trip) < START_S + 0.3


def _watch(hedging, start_s, stop_s):
    for tick in range(1, 1 + round((stop_s - start_s) / TICK_S)):
        hedging.look(start_s + tick * TICK_S)


def test_a_pause_of_everything_is_not_the_requests_fault_and_too_long_a_one_is():
    link = Link(16, 1440e6)
    link.run(3)
    link.stalled = dict.fromkeys(link.trips, 0)
    link.run(QUIET_S - 2 * TICK_S)
    assert 0 == link.late
    link.run(0.2)
    assert link.late


def test_time_in_which_nobody_looked_is_not_the_requests():
    hedging = Hedging()
    for _ in range(20):
        trip = hedging.begin(1.0, 1000)
        trip.landed(1.001, 1000)
        hedging.end(trip, complete=True)
    trip = hedging.begin(10.0, 1000)
    hedging.look(10.01)
    hedging.look(20.0)  # the machine stood still
    assert hedging.silent_s(trip) < 0.1
    _watch(hedging, 20.0, 20.0 + FLOOR_S)
    assert hedging.late(trip)


def test_what_has_failed_is_no_observation():
    hedging = Hedging()
    trip = hedging.begin(0.0, BLOCK)
    trip.landed(5.0, BLOCK)
    hedging.end(trip, complete=False)
    alone = hedging.begin(10.0, BLOCK)
    _watch(hedging, 10.0, 10.0 + START_S + 0.1)

    assert hedging.late(alone)


def test_short_requests_are_measured_as_a_whole_and_among_themselves():
    hedging = Hedging()
    for number in range(100):
        trip = hedging.begin(float(number), PACE_BYTES - 1)
        trip.landed(number + 0.2, 1)
        trip.landed(number + 0.3, PACE_BYTES - 1)
        assert 0.3 == pytest.approx(trip.taken_s)
        hedging.end(trip, complete=True)
    short, long = hedging.begin(200.0, 1000), hedging.begin(200.0, PACE_BYTES)
    for trip in (short, long):
        trip.landed(200.1, 100)
    _watch(hedging, 200.0, 200.25)
    assert not hedging.late(short)
    _watch(hedging, 200.25, 200.4)
    assert hedging.late(short)
    assert not hedging.late(long)  # of those nothing is known


def test_seconds_a_byte_are_those_after_the_first_bytes():
    trip = Hedging().begin(0.0, PACE_BYTES)
    assert 0.0 == trip.pace_s
    trip.landed(1.0, 1000)
    assert 0.0 == trip.pace_s
    trip.landed(9.0, PACE_BYTES)
    assert 8.0 / (PACE_BYTES - 1000) == trip.pace_s


def test_pieces_grow_with_what_has_come():
    assert (128 << 10, 128 << 10, 300_000, MIB) == tuple(map(unseen, (0, 1000, 300_000, 5 * MIB)))


# -- how many ------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=500))
def test_second_requests_are_a_few_and_a_few_per_cent(tries):
    hedging, taken, ended = Hedging(), 0, 0
    for wants in tries:
        if wants:
            taken += hedging.take()
        else:
            ended += 1
            hedging.end(hedging.begin(1.0, 1), complete=True)
        assert taken <= BURST + SHARE * ended + 1e-6


def test_the_first_ones_are_there_at_once_and_more_are_earned():
    hedging = Hedging()
    assert [True] * BURST + [False] == [hedging.take() for _ in range(BURST + 1)]
    for _ in range(round(1 / SHARE)):
        hedging.end(hedging.begin(1.0, 1), complete=True)
    assert [True, False] == [hedging.take(), hedging.take()]


def test_a_server_that_stalls_one_request_in_twelve_is_overtaken_for_a_while():
    hedging = Hedging()
    for _ in range(20):  # with eight at once, the nineteenth waited for its time-out
        assert hedging.take()
        for _ in range(12):
            hedging.end(hedging.begin(1.0, 1), complete=True)
