"""A host that is down: tried by one at a time. Nobody fails before the deadline, all go on when it is up."""

import time
from typing import Any

import pytest
import trio

from lazyfs.core.breaker import RUN_S
from lazyfs.core.plan import Policy
from lazyfs.errors import AccessDenied, SourceUnavailable
from lazyfs.telemetry import metrics
from lazyfs.transport.line import Line
from tests.faults.server import Behaviour, FaultServer
from tests.mount.test_report import reporter_of
from tests.streaming.network import NetworkRig
from tests.streaming.rig import BLOCK, until

A, B, C = 16, 17, 18
DOWN_S = RUN_S + 2.0
"""By then it is known that it is down."""


@pytest.fixture
def contents(pattern_bytes):
    return {inode: pattern_bytes(20 * BLOCK, inode) for inode in (A, B, C)}


@pytest.fixture
def server():
    found = FaultServer()
    yield found
    found.close()


@pytest.fixture
def dialled(monkeypatch):
    """When somebody dialled."""
    found: list[float] = []
    dial = Line.dial

    def counting(*arguments):
        found.append(time.monotonic())
        return dial(*arguments)

    monkeypatch.setattr(Line, "dial", counting)
    return found


class Outcomes:
    """Readers that run beside the test, and what became of them."""

    def __init__(self, rig, nursery):
        self._rig, self._nursery = rig, nursery
        self.found: dict[tuple[int, int], Any] = {}

    def read(self, inode, *indices):
        for index in indices:
            self._nursery.start_soon(self._read, inode, index)

    async def _read(self, inode, index):
        self.found[inode, index] = await self._rig.result(inode, index)

    async def until(self, count):
        while len(self.found) < count:
            await trio.sleep(0.01)


@pytest.mark.logs("host_down")
async def test_one_at_a_time_tries_and_everybody_goes_on_when_it_is_up(contents, server, dialled, tmp_path):
    rig = NetworkRig(server, contents, deadline_s=60.0)
    reporter = reporter_of(rig, tmp_path)
    server.close()
    async with rig.running() as nursery:
        readers = Outcomes(rig, nursery)
        readers.read(A, *range(16))
        await until(lambda: rig.loader.breakers.down)
        await trio.sleep(3.0)  # a busy machine begins with the pauses late
        del dialled[:]
        await trio.sleep(3.0)
        # Pauses have grown to a second, for readers wait.
        assert 2 <= len(dialled) <= 5
        assert not readers.found
        assert 1 == reporter.gauges()[metrics.HOSTS_DOWN, ""]
        assert "is down: one request at a time tries it" in reporter.status().oldest_wait
        assert "refused" in reporter.status().last_error

        again = FaultServer(port=server.port)
        again.files = server.files
        began_s = trio.current_time()
        await readers.until(16)
        again.close()

        assert trio.current_time() - began_s < 2.0
        assert all(isinstance(found, float) for found in readers.found.values())
        assert 0 == reporter.gauges()[metrics.HOSTS_DOWN, ""]


@pytest.mark.logs("host_down", "fetch_failed")
async def test_nobody_fails_before_the_deadline_and_nobody_waits_longer(contents, server):
    rig = NetworkRig(server, contents, deadline_s=3.0)
    server.close()
    async with rig.running() as nursery:
        readers = Outcomes(rig, nursery)
        readers.read(A, *range(8))
        await trio.sleep(2.5)
        assert rig.loader.breakers.down
        late = trio.current_time()
        readers.read(A, 8)
        with trio.fail_after(2):
            await readers.until(8)
        assert (A, 8) not in readers.found
        with trio.fail_after(4):
            await readers.until(9)
        assert 2.5 < trio.current_time() - late < 4

    assert {SourceUnavailable} == {
        kind if kind is SourceUnavailable else kind.__mro__[1] for kind in readers.found.values()
    }
    assert not rig.loader.statistics().flights


@pytest.mark.logs("fetch_failed")
@pytest.mark.parametrize("status", [500, 503, 403])
async def test_one_bad_object_fails_nobody_else_and_does_not_make_the_host_down(contents, server, status):
    rig = NetworkRig(server, contents, deadline_s=3.0)
    server.behave = lambda asked: Behaviour(status=status if asked.path.startswith(f"/{B}?") else None)
    async with rig.running() as nursery:
        readers = Outcomes(rig, nursery)
        readers.read(B, *range(8))
        for index in range(20):
            readers.read(A, index)
            await trio.sleep(0.1)
            assert not rig.loader.breakers.down
        with trio.fail_after(6):
            await readers.until(28)

    assert max(readers.found[A, index] for index in range(20)) < 1.0
    expected = {500: SourceUnavailable, 503: SourceUnavailable, 403: AccessDenied}[status]
    assert all(issubclass(readers.found[B, index], expected) for index in range(8))


@pytest.mark.logs("fetch_failed")
async def test_one_bad_block_fails_nobody_else_of_its_file(contents, server):
    rig = NetworkRig(server, contents, deadline_s=2.0)
    bad = (5 * BLOCK, 6 * BLOCK)
    server.behave = lambda asked: Behaviour(status=500 if asked.span == bad else None)
    async with rig.running() as nursery:
        readers = Outcomes(rig, nursery)
        readers.read(A, *range(20))
        with trio.fail_after(1):
            await readers.until(19)
        with trio.fail_after(4):
            await readers.until(20)

    assert SourceUnavailable is readers.found.pop((A, 5))
    assert all(isinstance(found, float) for found in readers.found.values())


@pytest.mark.logs("host_down")
async def test_a_server_that_fails_every_object_is_down_until_it_does_not(contents, server):
    rig = NetworkRig(server, contents, deadline_s=60.0)
    server.behave = lambda _asked: Behaviour(status=500)
    async with rig.running() as nursery:
        readers = Outcomes(rig, nursery)
        readers.read(A, *range(8))
        readers.read(B, *range(8))
        await until(lambda: rig.loader.breakers.down)
        await trio.sleep(1.5)
        asked = len(server.asked)
        await trio.sleep(2.0)
        assert len(server.asked) - asked <= 4
        server.behave = None
        with trio.fail_after(2):
            await readers.until(16)


async def test_throttling_is_not_being_down(contents, server):
    rig = NetworkRig(server, contents, deadline_s=60.0)
    until_s = time.monotonic() + DOWN_S
    server.behave = lambda _asked: Behaviour(status=503 if time.monotonic() < until_s else None)
    async with rig.running() as nursery:
        readers = Outcomes(rig, nursery)
        for inode in (A, B, C):
            readers.read(inode, *range(3))
        while time.monotonic() < until_s:
            assert not rig.loader.breakers.down
            await trio.sleep(0.05)
        with trio.fail_after(10):
            await readers.until(9)


@pytest.mark.logs("host_down")
async def test_warm_up_waits_for_its_host_without_piling_up_and_then_goes_on(contents, server, dialled):
    rig = NetworkRig(server, contents, deadline_s=60.0, policy=Policy.MODEL)
    server.close()
    async with rig.running():
        await until(lambda: rig.loader.breakers.down)
        await trio.sleep(3.0)  # a busy machine begins with the pauses late
        del dialled[:]
        await trio.sleep(3.0)
        assert len(dialled) <= 2  # nobody waits: the pauses go on growing
        assert 0 == rig.ledger.used_bytes

        again = FaultServer(port=server.port)
        again.files = server.files
        with trio.fail_after(12):
            while rig.loader.keeper.landed_bytes < 60 * BLOCK:
                await trio.sleep(0.05)
        again.close()
