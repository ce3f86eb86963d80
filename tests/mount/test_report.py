"""Phases and figures of a mount, from its parts."""

import json
import threading
import time
from pathlib import Path

import pytest
import trio

from lazyfs.cache.health import CacheHealth
from lazyfs.core.blob import BlobRef, BlockKey
from lazyfs.core.manifest import build
from lazyfs.core.plan import Policy
from lazyfs.errors import SourceUnavailable
from lazyfs.fuse.attributes import STATUS_BYTES
from lazyfs.mount import report
from lazyfs.mount.report import Origin, Reporter
from lazyfs.streaming.flight import Tier
from lazyfs.telemetry.metrics import BLOCKS_DECLINED
from lazyfs.telemetry.status import Phase
from tests.streaming.rig import BLOCK, Rig, until

A = 16


class Disk:
    """What the reporter asks of a store."""

    def __init__(self, rig):
        self._rig = rig
        self.used_bytes = self.capacity_bytes = self.verified_count = self.verified_bytes = 0
        self.health = CacheHealth(Path("/cache"))

    @property
    def stored_bytes(self):
        return sum(map(len, self._rig.fetcher.stored.values()))


def reporter_of(rig, tmp_path, *, name="a.safetensors"):
    size = len(rig.contents[A])
    manifest = build("s3://bucket/model", [BlobRef(name, "o", "v", size)])
    store = Disk(rig) if rig.writer is not None else None
    origin = Origin(tmp_path, 0.0, supervisor=1, restarts=0, owner=(0, 0))
    return Reporter(manifest, origin, (rig.loader, rig.warmer, rig.ledger, store), rig.meter)


async def test_a_load_is_loading_and_then_complete(tmp_path, pattern_bytes):
    rig = Rig({A: pattern_bytes(4 * BLOCK)}, policy=Policy.MODEL, store=True)
    reporter = reporter_of(rig, tmp_path)
    assert Phase.LOADING == reporter.phase
    async with rig.running():
        with trio.fail_after(10):
            while reporter.phase is not Phase.COMPLETE:
                await trio.sleep(0.01)

    assert len(rig.contents[A]) == reporter.status().bytes_local


async def test_bytes_that_are_wanted_and_do_not_come_are_a_stall(tmp_path, pattern_bytes, monkeypatch):
    monkeypatch.setattr(report, "STALLED_S", 0.0)
    rig = Rig({A: pattern_bytes(4 * BLOCK)}, store=True)
    filled = trio.Event()

    async def half(flight):
        rig.fetcher.fill(flight, 100)
        filled.set()
        await trio.sleep_forever()

    rig.fetcher.network = half
    reporter = reporter_of(rig, tmp_path)
    began_s = time.monotonic()
    async with rig.running() as nursery:
        nursery.start_soon(rig.read, A, 0)
        await filled.wait()
        reporter.sample()  # a part of a block is progress
        moved = reporter.moved_at_s
        assert began_s < moved
        reporter.sample()
        assert moved == reporter.moved_at_s
        assert Phase.STALLED == reporter.phase


@pytest.mark.logs("fetch_failed")
async def test_what_warm_up_could_not_have_is_a_stall_and_not_the_end_of_it(
    tmp_path, pattern_bytes, monkeypatch, mock_clock
):
    monkeypatch.setattr(report, "STALLED_S", 0.0)
    rig = Rig({A: pattern_bytes(4 * BLOCK)}, policy=Policy.MODEL, store=True, deadline_s=1.0)
    gave_up = trio.Event()
    rig.loader.gave_up = lambda _key, _error: gave_up.set()

    async def away(_flight):
        raise SourceUnavailable("away")

    rig.fetcher.network = away
    reporter = reporter_of(rig, tmp_path)
    async with rig.running():
        await gave_up.wait()
        while rig.loader.traffic.flying(Tier.NETWORK):
            await trio.sleep(0.01)
        assert Phase.STALLED == reporter.phase


async def test_what_has_landed_and_is_not_written_yet_is_still_loading(tmp_path, pattern_bytes):
    rig = Rig({A: pattern_bytes(4 * BLOCK)}, policy=Policy.MODEL, store=True)
    written = threading.Event()
    write = rig.write

    def slow(key, content):
        written.wait(10)
        return write(key, content)

    rig.write = slow
    reporter = reporter_of(rig, tmp_path)
    async with rig.running():
        await until(lambda: rig.warmer.exhausted and rig.loader.traffic.resting())
        assert Phase.LOADING == reporter.phase
        written.set()
        await until(lambda: reporter.phase is Phase.COMPLETE)


async def test_a_cache_that_takes_nothing_more_is_not_loading_for_ever(tmp_path, pattern_bytes, monkeypatch):
    monkeypatch.setattr(report, "STALLED_S", 0.0)
    rig = Rig({A: pattern_bytes(40 * BLOCK)}, policy=Policy.MODEL, store=True, memory_blocks=4)
    rig.outcome = "over_budget"
    reporter = reporter_of(rig, tmp_path)
    async with rig.running():
        await until(lambda: rig.meter.value(BLOCKS_DECLINED, "over_budget") == 3)
        await until(lambda: not rig.loader.traffic.flying(Tier.NETWORK) and not rig.loader.keeper.unsettled)
        assert Phase.SERVING == reporter.phase


async def test_a_file_that_is_not_its_publishers_stays_the_last_error(tmp_path, pattern_bytes):
    rig = Rig({A: pattern_bytes(BLOCK)}, store=True)
    reporter = reporter_of(rig, tmp_path)

    reporter.mismatched(A)
    rig.loader.last_error = "a moment's trouble"

    status = reporter.status()
    assert 1 == status.errors
    name = rig.loader.name_of(BlockKey(A, 0))
    assert (
        f"{name} is not what its publisher says; tell the publisher, or publish it again" == status.last_error
    )


async def test_without_a_store_nothing_is_complete_before_it_has_landed(tmp_path, pattern_bytes):
    rig = Rig({A: pattern_bytes(BLOCK)})
    started = trio.Event()

    async def never(_flight):
        started.set()
        await trio.sleep_forever()

    rig.fetcher.network = never
    reporter = reporter_of(rig, tmp_path)
    assert Phase.SERVING == reporter.phase
    async with rig.running() as nursery:
        nursery.start_soon(rig.read, A, 0)
        await started.wait()
        assert Phase.LOADING == reporter.phase
        assert 0 == reporter.status().bytes_local


@pytest.mark.parametrize("name", ["\udc80", "模", '"', "\n"])
def test_the_longest_status_fits_its_file_and_is_json(tmp_path, pattern_bytes, name):
    rig = Rig({A: pattern_bytes(BLOCK)})
    rig.loader.last_error = name * 10_000
    reporter = reporter_of(rig, "/" + name * (4000 // len(name.encode("utf-8", "surrogateescape"))))

    document = reporter.status().to_json()

    assert len(document.encode()) < STATUS_BYTES
    assert name * 100 in json.loads(document)["last_error"]
