import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.bench.link import CONNECTIONS, HELLO_BYTES, Bounds, Link, landed_by
from lazyfs.bench.ranges import Ranges, worth_reading
from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied, SourceThrottled
from tests.faults.server import ETAG, Behaviour, FaultServer

SIZE = 4 << 20
BUDGET = 16_000_000


class Served:
    """A source whose every blob is what a server has."""

    def __init__(self, server: FaultServer) -> None:
        self._server = server

    def list(self):
        yield BlobRef("model.safetensors", "o", ETAG, SIZE)

    def locate(self, blob):
        return Location(self._server.url(), {}, version=ETAG)

    def close(self):
        """Nothing is held."""


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(SIZE))
    yield found
    found.close()


@pytest.fixture
def link(server):
    source = Served(server)
    found = Link(source, list(source.list()), Bounds(BUDGET, 8 << 20, 0.3))
    yield found
    found.close()


def told(_text):
    """Nobody listens."""


def test_latency_is_of_single_small_requests_on_one_connection(link, server):
    latency = link.latency()

    assert 0 < latency.median_s <= latency.p95_s
    assert latency.first_request_s > 0
    assert 1 == server.connection_count
    assert link.asked_bytes == sum(stop - start for start, stop in server.spans())


def test_a_curve_begins_with_one_connection_and_every_step_has_a_rate(link):
    curve = link.curve(told)

    assert list(CONNECTIONS[: len(curve)]) == [measured.step.connections for measured in curve]
    assert all(measured.step.bytes_per_s > 0 and not measured.trouble for measured in curve)


def test_no_more_than_the_budget_is_asked_for(link, server):
    link.latency()
    link.curve(told)

    asked = sum(stop - start for start, stop in server.spans())
    assert link.asked_bytes == asked
    assert 0 < asked <= BUDGET


def test_when_its_time_is_up_a_step_asks_for_nothing_more(server):
    server.behave = lambda asked: Behaviour(delay_s=0.1 if asked.span[1] - asked.span[0] > HELLO_BYTES else 0)
    source = Served(server)
    link = Link(source, list(source.list()), Bounds(BUDGET, 8 << 20, 0.02))

    curve = link.curve(told)

    link.close()
    ranges = [stop - start for start, stop in server.spans() if stop - start > HELLO_BYTES]
    assert len(curve) <= len(ranges) <= sum(measured.step.connections for measured in curve)


def test_more_connections_than_the_source_stands_end_the_curve(link, server):
    def throttled(asked):
        return Behaviour(status=503) if asked.connection > 3 else Behaviour()

    server.behave = throttled

    curve = link.curve(told)

    last = curve[-1]
    assert last.step.failed
    assert last.step.connections > 1
    assert "503" in last.trouble
    assert not any(measured.step.failed for measured in curve[:-1])


def test_a_failure_that_does_not_repeat_itself_is_forgotten(link, server):
    failing = iter([True])
    server.behave = lambda asked: Behaviour(
        status=503 if asked.connection > 1 and next(failing, False) else None
    )

    assert not any(measured.trouble for measured in link.curve(told))


@pytest.mark.parametrize(("status", "error"), [(403, AccessDenied), (503, SourceThrottled)])
def test_a_source_that_gives_nothing_is_an_error(link, server, status, error):
    server.behave = lambda _asked: Behaviour(status=status)

    with pytest.raises(error):
        link.latency()
    with pytest.raises(error):
        link.curve(told)


def test_ranges_go_through_every_file_before_any_comes_again(server):
    blobs = [BlobRef("a", "o", ETAG, 250), BlobRef("b", "o", ETAG, 100)]
    ranges = Ranges(Served(server), blobs)

    taken = [ranges.take(100)[1] for _ in range(4)]

    assert [(0, 100), (100, 200), (200, 250), (0, 100)] == [(w.span.start, w.span.stop) for w in taken]
    assert [250, 250, 250, 100] == [wanted.size_bytes for wanted in taken]
    assert ranges.repeated


def test_files_that_hold_no_whole_range_are_left_out_unless_there_are_no_others():
    small, empty, large = (BlobRef(str(size), "o", "v", size) for size in (10, 0, 1000))

    assert [large] == worth_reading([small, empty, large], 100)
    assert [small] == worth_reading([small, empty], 100)


LANDINGS = ((0.0, 0), (1.0, 100), (3.0, 300))


@pytest.mark.parametrize(("moment", "landed"), [(0.0, 0), (0.5, 50), (1.0, 100), (2.0, 200), (9.0, 300)])
def test_what_is_on_its_way_counts_for_its_part(moment, landed):
    assert landed == landed_by(moment, LANDINGS)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100)), min_size=1), st.floats(0, 20))
def test_what_had_landed_is_never_more_than_has(steps, moment):
    landings, seconds, count = [(0.0, 0)], 0.0, 0
    for after_s, more in steps:
        seconds, count = seconds + after_s, count + more
        landings.append((seconds, count))

    assert 0 <= landed_by(moment, landings) <= count
