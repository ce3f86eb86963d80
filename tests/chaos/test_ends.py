"""Endings with 32 readers waiting: each of them is told in time, and nothing is left behind."""

import os
import signal
import time
from pathlib import Path

import pytest

from lazyfs.fuse.mountinfo import mounted_at
from tests.chaos.crowd import EVERY, some, uninterruptible
from tests.chaos.stage import BLOCK, model, number, seed, staged
from tests.e2e.mounting import alive, lazyfs, mounted
from tests.faults.server import Behaviour

pytestmark = pytest.mark.chaos

READERS = number("READERS", 32)
WITHIN_S = 60.0
SILENT = Behaviour(raw=b"", stall_after=0)


@pytest.fixture
def stage(tmp_path):
    with staged(tmp_path, model(8, 4 << 20), "--block-size", BLOCK, clean=False) as found:
        found.bucket.behave = lambda _asked: SILENT
        yield found


def all_wait(crowd, stage):
    """Wait until every reader is in a read that nobody answers."""
    deadline_s = time.monotonic() + 60
    while True:
        before = stage.mount.status()["bytes_served"]
        time.sleep(0.5)
        if len(crowd.pids) == READERS and stage.mount.status()["bytes_served"] == before:
            return
        assert time.monotonic() < deadline_s


def all_were_told(crowd):
    """Hold the readers to it: an error, or SIGBUS for who had a file mapped; and none waits."""
    pids = crowd.pids
    seen = crowd.finish(WITHIN_S)
    assert [] == [place for one in seen if one.sheet for place in one.sheet.wrong]
    assert all(one.code == -signal.SIGBUS or (one.sheet and one.sheet.errors) for one in seen)
    assert [] == uninterruptible(pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_sigterm_with_a_stalled_server_and_32_readers(stage):
    with stage.read_by(some(EVERY, READERS), seed()) as crowd:
        all_wait(crowd, stage)
        began_s = time.monotonic()
        stage.mount.process.send_signal(signal.SIGTERM)
        stage.mount.process.wait(WITHIN_S)
        took_s = time.monotonic() - began_s
        all_were_told(crowd)

    print(f"unmounted {took_s:.2f} s after SIGTERM")
    assert 0 == stage.mount.process.returncode
    assert mounted_at(stage.mount.path) is None


@pytest.mark.parametrize("then", ["mount", "unmount"])
def test_who_holds_the_mount_is_killed_and_the_next_command_cleans_up(stage, then):
    path, worker = stage.mount.path, stage.mount.worker
    with stage.read_by(some(EVERY, READERS), seed()) as crowd:
        all_wait(crowd, stage)
        os.kill(stage.mount.process.pid, signal.SIGKILL)
        stage.mount.process.wait()
        all_were_told(crowd)

    assert not alive(worker), "it dies with who held the mount"
    if then == "unmount":
        ran = lazyfs("unmount", path)
        assert (0, "") == (ran.returncode, ran.stderr)
        assert mounted_at(path) is None
        return
    stage.bucket.behave = None
    with mounted(
        stage.bucket.address, path, "--cache-dir", stage.cache, env=stage.bucket.environment
    ) as again:
        again.wait_for_log("stale_mount_cleaned")
        assert (path / "model-001.safetensors").stat().st_size
