"""Locations that are refused, late or not to be had, as readers see it."""

import threading
import time
from dataclasses import replace

import pytest
import trio

from lazyfs.core.plan import Policy
from lazyfs.errors import AccessDenied, SourceThrottled, SourceUnavailable
from lazyfs.telemetry.metrics import RETRIES
from tests.faults.server import Behaviour, FaultServer
from tests.streaming.network import NetworkRig
from tests.streaming.rig import BLOCK

A, B = 16, 17


@pytest.fixture
def server():
    found = FaultServer()
    yield found
    found.close()


@pytest.fixture
def contents(pattern_bytes):
    return {inode: pattern_bytes(32 * BLOCK, inode) for inode in (A, B)}


async def read_all(rig, *inodes):
    async def one(inode, index):
        assert isinstance(await rig.result(inode, index), float)

    async with trio.open_nursery() as readers:
        for inode in inodes:
            for index in range(32):
                readers.start_soon(one, inode, index)


async def test_flights_that_are_refused_together_have_it_renewed_once(contents, server):
    rig = NetworkRig(server, contents, connections=32)
    # All 32 are under way before the first is refused.
    server.behave = lambda asked: Behaviour(delay_s=0.3, status=403) if "try=1" in asked.path else Behaviour()
    async with rig.running():
        await read_all(rig, A, B)

    assert {"16": 2, "17": 2} == {inode: rig.located.count(inode) for inode in set(rig.located)}
    refused = [asked for asked in server.asked if "try=1" in asked.path]
    assert len(refused) >= 36


async def test_credentials_that_cannot_be_renewed_for_a_while_are_no_readers_trouble(contents, server):
    rig = NetworkRig(server, contents)
    locate, until_s = rig.locate, time.monotonic() + 0.5

    def sometimes(blob):
        if time.monotonic() < until_s:
            rig.located.append("failed")
            raise SourceUnavailable("the role cannot be assumed now")
        return locate(blob)

    rig.locate = sometimes
    async with rig.running():
        await read_all(rig, A)

    assert rig.located.count("failed") > 1
    assert 1 == rig.located.count("16")


@pytest.mark.logs("fetch_failed")
async def test_a_source_that_does_not_say_where_it_is_fails_readers_at_their_deadline(contents, server):
    rig = NetworkRig(server, contents, deadline_s=1.0)
    over = threading.Event()

    def silent(_blob):
        over.wait(60)
        raise SourceUnavailable("at last")

    rig.locate = silent
    async with rig.running():
        began_s = trio.current_time()
        with trio.fail_after(3):
            assert SourceUnavailable is await rig.result(A, 0)
        assert trio.current_time() - began_s > 0.5
        over.set()


async def test_a_location_that_expires_is_renewed_before_it_is_refused(contents, server):
    rig = NetworkRig(server, contents)
    locate = rig.locate
    rig.locate = lambda blob: replace(locate(blob), expires_at_s=time.time() + 0.5)
    async with rig.running():
        assert rig.expected(A, 0) == await rig.read(A, 0)
        assert rig.expected(A, 1) == await rig.read(A, 1)
        assert ["16"] == rig.located
        await trio.sleep(0.6)
        assert rig.expected(A, 2) == await rig.read(A, 2)

    assert ["16", "16"] == rig.located
    assert all("try=1" in asked.path for asked in server.asked[:-1])


async def test_locations_that_expire_before_they_are_used_deny_nobody_anything(contents, server):
    """As with a life shorter than the wait for a turn: each is refused, though the right to read is there."""
    rig = NetworkRig(server, contents)
    locate = rig.locate
    until_s = time.monotonic() + 1.0
    rig.locate = lambda blob: replace(locate(blob), expires_at_s=time.time() + 0.02)
    server.behave = lambda _asked: (
        Behaviour(delay_s=0.03, status=403) if time.monotonic() < until_s else Behaviour()
    )
    async with rig.running():
        await read_all(rig, A)


@pytest.mark.logs("fetch_failed")
async def test_a_new_location_that_is_refused_is_the_verdict(contents, server):
    rig = NetworkRig(server, contents)
    locate = rig.locate
    rig.locate = lambda blob: replace(locate(blob), expires_at_s=time.time() + 3600)
    server.behave = lambda _asked: Behaviour(status=403)
    async with rig.running():
        assert AccessDenied is await rig.result(A, 0)

    assert ["16", "16"] == rig.located


async def test_a_throttled_source_of_locations_does_not_cost_the_storage_connections(contents, server):
    rig = NetworkRig(server, contents)
    locate, throttled = rig.locate, []

    def sometimes(blob):
        if not throttled:
            throttled.append(blob)
            raise SourceThrottled("slow down", retry_after_s=0.1)
        return locate(blob)

    rig.locate = sometimes
    before = rig.loader.traffic.connections_limit
    async with rig.running():
        await read_all(rig, A, B)

    assert throttled
    assert before == rig.loader.traffic.connections_limit
    assert ["16", "17"] == sorted(rig.located)


async def test_warm_up_rests_while_the_source_of_locations_throttles(contents, server):
    rig = NetworkRig(server, contents, policy=Policy.MODEL, connections=4)
    locate, until_s = rig.locate, time.monotonic() + 1.0

    def later(blob):
        if time.monotonic() < until_s:
            raise SourceThrottled("slow down", retry_after_s=1.0)
        return locate(blob)

    rig.locate = later
    async with rig.running():
        while rig.loader.keeper.landed_bytes < 64 * BLOCK:
            await trio.sleep(0.05)

    # Else every block of the model would have been tried once.
    assert rig.meter.value(RETRIES) < 16
