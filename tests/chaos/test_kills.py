"""Workers are killed, stopped, crashed and upgraded under a heavy load: readers wait a moment, no more."""

import os
import random
import signal
import statistics
import time

import pytest

from tests.chaos.crowd import LOADS, some, uninterruptible, untroubled
from tests.chaos.stage import BLOCK, model, number, seed, staged

pytestmark = pytest.mark.chaos

KILLS = number("KILLS", 3)
READERS = number("READERS", 16)
HANGS_S = 60.0
AFTER_S = 5.0
"""A pause that a kill caused begins within this long."""


@pytest.fixture
def stage(tmp_path):
    # Half of the model fits into the cache, a quarter into memory: there is always something to fetch.
    options = ("--block-size", BLOCK, "--cache-size", "33MB", "--memory", "64MiB")
    with staged(tmp_path, model(4, 16 << 20), *options) as found:
        yield found


def another(mount, than):
    """Wait until another process serves, and has begun to; return it."""
    deadline_s = time.monotonic() + HANGS_S
    while (children := mount.children()) == [than] or len(children) != 1:
        assert time.monotonic() < deadline_s, children
        time.sleep(0.005)
    return children[0]


def pauses(probe, moments):
    """Return how long after each moment's event the probe waited, in seconds.

    An event may meet a worker that has not served yet: what was waited before is not of this event's making.
    """
    found = []
    for moment, following in zip(moments, [*moments[1:], float("inf")], strict=True):
        until = min(moment + AFTER_S, following)
        ends = [
            (began, began + took) for began, took in probe.slow if began + took > moment and began < until
        ]
        found.append(max((end - max(began, moment) for began, end in ends), default=0.0))
    return found


def played(stage, events, chance, play):
    """Let a crowd read while something happens to the worker again and again; print the probe's pauses."""
    held, moments = stage.held(), []
    with stage.read_by(["probe", *some(LOADS, READERS)], chance.random()) as crowd:
        time.sleep(1.0)
        for _ in range(events):
            time.sleep(chance.uniform(0.2, 1.2))
            moments.append(time.monotonic())
            play()
        time.sleep(1.0)
        seen = crowd.finish(30)
        assert [] == uninterruptible(crowd.pids)
    untroubled(seen)
    stage.settles_at(held)
    assert all(one.sheet.reads for one in seen)
    found = pauses(seen[0].sheet, moments)
    total = sum(one.read_bytes for one in seen)
    print(
        f"{events} events, {READERS} readers, {total / 1e9:.1f} GB read and right; pause median "
        f"{statistics.median(found):.2f} s, longest {max(found):.2f} s"
    )


@pytest.mark.timeout(60 + KILLS * 8)
def test_kill_9_again_and_again_under_load(stage):
    chance = random.Random(seed())

    def kill():
        worker = stage.mount.worker
        os.kill(worker, signal.SIGKILL)
        another(stage.mount, worker)

    played(stage, KILLS, chance, kill)

    assert KILLS == len(stage.mount.wait_for_log("worker_died", KILLS))


@pytest.mark.timeout(60 + KILLS * 8)
def test_upgrades_again_and_again_under_load(stage):
    chance = random.Random(seed())

    def upgrade():
        worker = stage.mount.worker
        stage.mount.process.send_signal(signal.SIGHUP)
        another(stage.mount, worker)

    played(stage, KILLS, chance, upgrade)

    assert KILLS == len(stage.mount.wait_for_log("worker_relieved", KILLS))


def test_a_worker_that_is_stopped_or_crashes_is_replaced(stage):
    chance = random.Random(seed())
    numbers = [signal.SIGSTOP, signal.SIGSEGV, signal.SIGABRT]

    def strike():
        worker = stage.mount.worker
        os.kill(worker, numbers.pop(0))
        another(stage.mount, worker)

    played(stage, 3, chance, strike)
