"""`lazyfs pull` as people run it, from a real S3 server: right files, kills and other ends."""

import hashlib
import os
import pty
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from lazyfs.demo.link import Link
from tests.e2e.conftest import BLOCK
from tests.e2e.hosting import FaultyBucket
from tests.e2e.mounting import lazyfs
from tests.faults.server import Behaviour

CONNECTIONS = 4
KILLS = 20
HEADS_BYTES = 100_000
"""What the heads of replies and the listing take, at most, in one run."""


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


@pytest.fixture
def pull(hosted, target, cache_dir):
    def run(*options, source=None, **how):
        arguments = ("--cache-dir", cache_dir, "--block-size", BLOCK, *options)
        return lazyfs("pull", *arguments, source or hosted.address, target, **how)

    return run


@pytest.fixture
def paced(aws, monkeypatch):
    """A way to the S3 server that takes a while: the model takes a quarter of a minute."""
    found = Link(("127.0.0.1", aws.port), rate_bytes_per_s=3_000_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
    yield found
    found.close()


def digests_of(target):
    return {
        str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(target.rglob("*"))
        if path.is_file() and ".lazyfs" not in path.parts
    }


@contextmanager
def pulling(hosted, target, cache_dir, *options):
    """A pull that is under way; it is killed at the end if it has not ended."""
    arguments = ("--cache-dir", cache_dir, "--block-size", BLOCK, "--connections", CONNECTIONS, *options)
    process = subprocess.Popen(
        [sys.executable, "-m", "lazyfs", "pull", *map(str, arguments), hosted.address, str(target)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(process, condition):
    """Return whether it came true before the process ended."""
    deadline = time.monotonic() + 60
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


def test_every_file_is_there_and_a_second_pull_asks_for_none(hosted, link, pull, target, digests, cache_dir):
    ran = pull()

    assert 0 == ran.returncode, ran.stderr
    assert digests == digests_of(target)
    assert ran.stdout.startswith(f"{target} has all 5 files, ")
    assert "0 B from the node's cache, 0 B were there." in ran.stdout
    assert 5 == ran.stderr.count("INFO file_pulled")
    assert not cache_dir.exists()

    link.requests.clear()
    again = pull()

    assert 0 == again.returncode
    assert ": 0 B from the network" in again.stdout
    assert not [one for one in link.requests if b"\r\nRange: " in one]


def killed_pull(hosted, target, cache_dir, link, rng, size_bytes, kills):
    """Kill pulls at random points until so many were; return how many bytes came beyond those needed."""
    killed, wasted_allowed = 0, 0
    began = link.received_bytes
    while killed < kills:
        share = rng.uniform(0, 1.5 / kills)
        goal = link.received_bytes + int(share * size_bytes)
        with pulling(hosted, target, cache_dir) as process:
            if wait_until(process, lambda goal=goal: link.received_bytes >= goal):
                killed += 1
            else:
                break
        wasted_allowed += CONNECTIONS * BLOCK + HEADS_BYTES
    return began, wasted_allowed, killed


def test_killed_at_random_points_it_fetches_no_more_than_a_block_a_lane_again(
    hosted, link, pull, target, digests, model, cache_dir
):
    size = sum((model / name).stat().st_size for name in digests)
    rng = random.Random(20)

    began, allowed, killed = killed_pull(hosted, target, cache_dir, link, rng, size, KILLS)
    ran = pull()

    assert 0 == ran.returncode, ran.stderr
    assert killed >= KILLS // 2
    assert digests == digests_of(target)
    assert link.received_bytes - began <= size + allowed + HEADS_BYTES


def test_a_mount_warmed_before_or_a_cache_filled_means_no_download(
    hosted, link, pull, target, digests, cache_dir
):
    warmed = lazyfs("warm", "--cache-dir", cache_dir, "--block-size", BLOCK, hosted.address)
    assert 0 == warmed.returncode, warmed.stderr
    link.requests.clear()

    ran = pull()

    assert 0 == ran.returncode, ran.stderr
    assert digests == digests_of(target)
    assert ": 0 B from the network" in ran.stdout
    assert not [one for one in link.requests if b"\r\nRange: " in one]


def test_a_file_replaced_upstream_between_two_pulls_is_fetched_anew(bucket, endpoint, pull, target):
    bucket.put("kept.bin", b"k" * 700_000)
    bucket.put("sub/changed.bin", b"a" * 700_000)
    assert 0 == pull(source=bucket.address).returncode
    bucket.put("sub/changed.bin", b"b" * 700_000)

    ran = pull(source=bucket.address)

    assert 0 == ran.returncode
    assert b"b" * 700_000 == (target / "sub" / "changed.bin").read_bytes()
    assert ": 700.0 kB from the network" in ran.stdout
    assert "700.0 kB were there" in ran.stdout


def test_a_part_of_another_version_is_not_built_upon(bucket, paced, pull, target, cache_dir):
    bucket.put("model.bin", b"a" * 4_000_000)
    with pulling(bucket, target, cache_dir) as process:
        assert wait_until(process, lambda: paced.received_bytes > 2_500_000)
    (part,) = (target / ".lazyfs" / "parts").glob("*.data")
    assert part.stat().st_blocks
    bucket.put("model.bin", b"b" * 4_000_000)

    ran = pull(source=bucket.address)

    assert 0 == ran.returncode, ran.stderr
    assert b"b" * 4_000_000 == (target / "model.bin").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_what_has_come_is_kept(hosted, slow_link, target, cache_dir, number, code):
    with pulling(hosted, target, cache_dir) as process:
        assert wait_until(process, lambda: slow_link.received_bytes > 100_000)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert code == process.returncode
    assert "the same command goes on from there" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.fixture
def faulty(pattern_bytes, aws, monkeypatch):
    """A bucket that fails from its fifth GET on."""
    found = FaultyBucket({"a.bin": pattern_bytes(8 * BLOCK, 5)})
    found.behave = lambda _asked: Behaviour(status=500) if len(found.gets) > 4 else None
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint_url)
    yield found
    found.close()


def test_a_source_that_fails_for_longer_than_the_deadline_ends_it_and_the_next_goes_on(
    faulty, pull, target, pattern_bytes
):
    refused = pull("--connections", "1", "--read-deadline", "1s", source=faulty.address)
    assert 5 == refused.returncode, refused.stderr
    assert "answered 500" in refused.stderr.splitlines()[-1]
    faulty.gets.clear()
    faulty.behave = lambda _asked: None

    ran = pull(source=faulty.address)

    assert 0 == ran.returncode, ran.stderr
    assert pattern_bytes(8 * BLOCK, 5) == (target / "a.bin").read_bytes()
    assert 4 == len(faulty.gets)


def test_two_at_once_do_not_share_a_directory(hosted, slow_link, pull, target, cache_dir):
    with pulling(hosted, target, cache_dir) as first:
        assert wait_until(first, (target / ".lazyfs" / "files").exists)
        ran = pull()

    assert 6 == ran.returncode
    assert f"lazyfs: another lazyfs pull is at work in {target}; wait for it" in ran.stderr


@pytest.mark.parametrize(
    ("code", "words", "source"),
    [
        (2, "unknown scheme gopher://", "gopher://x"),
        (3, "there is no bucket no-such-bucket; check its name", "s3://no-such-bucket/x"),
        (3, "there is nothing at s3://tests/nowhere", "s3://tests/nowhere"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(hosted, endpoint, pull, code, words, source):
    ran = pull(source=source)

    assert (code, "") == (ran.returncode, ran.stdout)
    (line,) = ran.stderr.splitlines()
    assert words in line


def test_denied_is_said(endpoint, pull, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    ran = pull()

    assert 4 == ran.returncode
    assert "the credentials are wrong" in ran.stderr


NOBODY = (
    "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
    "--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search",
)  # fmt: skip
"""Nobody, who may read everything: the interpreter may lie anywhere."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_rights_can_pull_and_is_told_when_not(hosted, endpoint, tmp_path, digests):
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o111)
    target = tmp_path / "target"
    target.mkdir()

    def pull():
        words = ["pull", "--cache-dir", str(tmp_path / "nowhere"), hosted.address, str(target)]
        return subprocess.run(
            [*NOBODY, sys.executable, "-m", "lazyfs", *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    refused = pull()
    os.chown(target, 65534, 65534)
    ran = pull()

    assert (6, "") == (refused.returncode, refused.stdout), refused.stderr
    assert f"lazyfs: {target}: Permission denied" in refused.stderr
    assert 0 == ran.returncode, ran.stderr
    assert digests == digests_of(target)
    assert 65534 == (target / "config.json").stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_without_room_is_said_at_once(hosted, link, small_disk, cache_dir):
    ran = lazyfs("pull", "--cache-dir", cache_dir, hosted.address, small_disk / "target")

    assert 6 == ran.returncode
    assert "free, and 4" in ran.stderr
    assert link.received_bytes < HEADS_BYTES


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_becomes_full_is_said_and_the_pull_goes_on_when_there_is_room(
    hosted, paced, small_disk, cache_dir
):
    target, shard = small_disk / "target", "model-00001-of-00003.safetensors"
    with pulling(hosted, target, cache_dir, "--include", shard) as process:
        assert wait_until(process, lambda: paced.received_bytes > 1_000_000)
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            file.write(bytes(os.statvfs(small_disk).f_bavail * 4096 - 1_000_000))
        _, err = process.communicate(timeout=60)
    assert 6 == process.returncode, err
    assert "No space left on device; free some space" in err.splitlines()[-1]
    filler.unlink()

    ran = lazyfs(
        "pull", "--cache-dir", cache_dir, "--block-size", BLOCK, "--include", shard, hosted.address, target
    )

    assert 0 == ran.returncode, ran.stderr
    assert [shard] == list(digests_of(target))


def test_on_a_terminal_there_is_a_bar(hosted, paced, target, cache_dir, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    parent, child = pty.openpty()
    arguments = ["--cache-dir", str(cache_dir), "--include", "*-00003-*", hosted.address, str(target)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lazyfs", "pull", *arguments], stdout=subprocess.PIPE, stderr=child, text=True
    )
    os.close(child)
    shown = b""
    try:
        while piece := os.read(parent, 4096):
            shown += piece
    except OSError:  # the other side is closed
        pass
    os.close(parent)
    out, _ = process.communicate(timeout=30)

    assert 0 == process.returncode
    assert "has all 1 files" in out
    assert b" MB, " in shown
    assert b" to go" in shown
    assert b"INFO" not in shown
