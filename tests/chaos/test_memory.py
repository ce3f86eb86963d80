"""A mount in a cgroup that has a small share of the model's memory: everything is read, nothing is killed."""

import pytest

from tests.chaos.crowd import EVERY, some, untroubled
from tests.chaos.stage import model, number, seed, staged
from tests.faults.cgroup import memory_group

pytestmark = pytest.mark.chaos

MODEL_MB = number("MODEL_MB", 200)
READERS = number("READERS", 32)
LIMIT_BYTES = 256 << 20
SHARDS = 8


@pytest.mark.timeout(100 + MODEL_MB // 4)
def test_256_mib_are_enough_for_any_model_and_32_readers(tmp_path):
    files = model(SHARDS, MODEL_MB * 1_000_000 // SHARDS)
    with memory_group(LIMIT_BYTES) as group, staged(tmp_path, files, joining=group.join) as stage:
        restarts = stage.mount.status()["restarts"]
        pieces = MODEL_MB // READERS + 20
        with stage.read_by(some(EVERY, READERS), seed(), count=pieces) as crowd:
            seen = crowd.finish(80 + MODEL_MB // 4, at_once=False)
        untroubled(seen)
        stage.mount.wait_for(lambda status: status["phase"] == "complete", 60 + MODEL_MB // 20)
        total = sum(one.read_bytes for one in seen)
        print(f"{total / 1e9:.1f} GB right; at most {group.peak_bytes >> 20} of {LIMIT_BYTES >> 20} MiB")
        assert 0 == group.kills
        assert restarts == stage.mount.status()["restarts"]
