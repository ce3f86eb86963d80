"""Every row of the table: the transport's verdict, and that the request after it is right."""

import random

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import LazyfsError
from lazyfs.transport.connection import Patience
from lazyfs.transport.ranges import RangeReader, Wanted
from tests.faults.pattern import Pattern
from tests.faults.scenarios import SCENARIOS
from tests.faults.server import ETAG, GOOD, FaultServer

QUICK = Patience(connect_s=1.0, first_byte_s=0.4, stall_s=0.4)
CONTENT = Pattern(1, 200_000)
START, STOP = 1000, 150_000


@pytest.fixture
def server():
    found = FaultServer(CONTENT)
    yield found
    found.close()


@pytest.fixture
def reader():
    found = RangeReader(QUICK)
    yield found
    found.close()


def fetch(reader, server):
    into = memoryview(bytearray(STOP - START))
    landed = [0]
    location = Location(server.url(), {"If-Match": ETAG}, version=ETAG)
    try:
        reader.fetch(location, Wanted(ByteRange(START, STOP), len(CONTENT)), into, landed.append)
    finally:
        # What was said to have landed is right, whatever came after it.
        assert CONTENT.matches(START, into[: landed[-1]])
    return into


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda row: row.name)
def test_what_the_transport_makes_of_it(reader, server, scenario):
    chance = random.Random(scenario.name)
    server.behave = lambda asked: scenario.make(asked, chance)

    if scenario.verdict is None:
        assert CONTENT.matches(START, fetch(reader, server))
    else:
        with pytest.raises(LazyfsError) as raised:
            fetch(reader, server)
        assert scenario.verdict is type(raised.value)

    server.behave = lambda _asked: GOOD
    server.wait_until_up()
    assert CONTENT.matches(START, fetch(reader, server))


def test_a_server_that_is_down_refuses_connections_and_comes_back_at_its_port(reader, server):
    fetch(reader, server)
    server.go_down(0.2)
    with pytest.raises(LazyfsError, match="refused"):
        fetch(reader, server)
    server.wait_until_up()

    assert CONTENT.matches(START, fetch(reader, server))
