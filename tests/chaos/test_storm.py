"""Everything at once, for as long as there is time: readers of every kind get every byte right."""

import os
import random
import subprocess
from contextlib import contextmanager

import pytest

from tests.chaos.crowd import EVERY, some, uninterruptible, untroubled
from tests.chaos.injecting import Trouble
from tests.chaos.stage import BLOCK, model, number, seed, staged

pytestmark = pytest.mark.chaos

SECONDS = number("SECONDS", 10)
READERS = number("READERS", 10)
DISK_BYTES = 56 << 20


@contextmanager
def small_disk(root):
    """A file system on which the model does not quite fit; tmpfs where there are no loop devices."""
    image, disk = root / "image", root / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=False).returncode == 0
    mount = ["mount", "-o", "loop", str(image), str(disk)]
    if not made or subprocess.run(mount, check=False).returncode:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
@pytest.mark.timeout(120 + SECONDS)
def test_a_storm(tmp_path):
    chosen = seed()
    chance = random.Random(chosen)
    files = model(8, 8 << 20)
    with small_disk(tmp_path) as disk:
        options = ("--block-size", BLOCK, "--memory", "64MiB", "--cache-size", "1GB")
        with staged(tmp_path, files, *options, cache=disk / "cache") as stage:
            held, trouble = stage.held(), Trouble(stage, chance, disk)
            with stage.read_by(some(EVERY, READERS), chosen) as crowd:
                try:
                    trouble.play(SECONDS)
                    seen = crowd.finish(60)
                    untroubled(seen)
                except BaseException:
                    print("\n".join([*trouble.script, stage.mount.log[-5000:]]))
                    raise
                assert [] == uninterruptible(crowd.pids)
            stage.settles_at(held)
            total, slowest = sum(one.read_bytes for one in seen), max(one.longest_s for one in seen)
            print(f"{dict(trouble.done)}; {total / 1e9:.1f} GB right; longest read {slowest:.1f} s")
            with stage.read_by(list(EVERY), chosen, count=100) as crowd:
                untroubled(crowd.finish(60, at_once=False))
