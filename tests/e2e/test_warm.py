"""`lazyfs warm` as people run it: a cache that is full of the model, and a mount that downloads nothing."""

import hashlib
import os
import subprocess
import sys
import time

import pytest

from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import lazyfs, mounted


@pytest.fixture
def warm(hosted, cache_dir):
    def run(*options, source=None):
        return lazyfs(
            "warm", "--cache-dir", cache_dir, "--block-size", BLOCK, *options, source or hosted.address
        )

    return run


def test_a_mount_after_it_downloads_nothing_and_a_second_one_has_nothing_to_do(
    hosted, link, warm, mnt, cache_dir, digests
):
    first = warm()
    assert 0 == first.returncode, first.stderr
    assert first.stdout.startswith(f"all of {hosted.address} is in the cache, ")
    link.requests.clear()

    second = warm()
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, "--block-size", BLOCK) as mount:
        assert "complete" == mount.status()["phase"]
        assert digests == {name: hashlib.sha256((mnt / name).read_bytes()).hexdigest() for name in digests}

    assert 0 == second.returncode
    assert "; it was there already." in second.stdout
    assert not [one for one in link.requests if b"\r\nRange: " in one]


def test_a_cache_that_is_too_small_is_said_before_anything_comes(link, warm, cache_dir):
    ran = warm("--cache-size", "10MB")

    assert 8 == ran.returncode
    assert "the cache may hold 10.0 MB, and " in ran.stderr
    assert "raise --cache-size if it was given" in ran.stderr
    assert not [one for one in link.requests if b"\r\nRange: " in one]


def test_no_cache_at_all_is_a_mistake(endpoint, warm):
    ran = warm("--cache-size", "0")

    assert 2 == ran.returncode
    assert "--cache-size 0 keeps nothing" in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_full_is_said(hosted, endpoint, small_disk):
    ran = lazyfs(
        "warm", "--cache-dir", small_disk / "c", "--block-size", BLOCK, "--cache-size", "1GB", hosted.address
    )

    assert 8 == ran.returncode
    assert "the cache does not take a block: writing: No space left on device; free some space" in ran.stderr


def test_a_signal_ends_it_and_the_next_one_goes_on(hosted, slow_link, endpoint, warm, cache_dir):
    slow = {**os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{slow_link.port}"}
    arguments = ["--cache-dir", str(cache_dir), "--block-size", str(BLOCK), hosted.address]
    process = subprocess.Popen(
        [sys.executable, "-m", "lazyfs", "warm", *arguments], stderr=subprocess.PIPE, text=True, env=slow
    )
    deadline = time.monotonic() + 60
    while slow_link.received_bytes < 100_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=60)

    assert 143 == process.returncode
    assert "the same command goes on from there" in err.splitlines()[-1]
    assert 0 == warm().returncode
