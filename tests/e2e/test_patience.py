"""Connections that stall and hosts that are away, below a real mount."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lazyfs.demo.seaweed import free_ports
from tests.e2e.hosting import FaultyBucket
from tests.e2e.mounting import metrics, mounted
from tests.faults.server import Behaviour

BLOCK = 1 << 20
BLOCKS = 96
NAME = "model.safetensors"
FIRST_BYTE_S = 0.1
"""Long enough that the machine's own delays are small beside it."""
DEADLINE_S = 8
"""Long, so that twice as much is not what a busy machine adds."""


@pytest.fixture
def content(pattern_bytes):
    return pattern_bytes(BLOCKS * BLOCK)


@pytest.fixture
def bucket(content, monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(name, value)
    found = FaultyBucket({NAME: content})
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint_url)
    yield found
    found.close()


def read_block(fd, content, index):
    """Read a block without read-ahead of the kernel's."""
    assert content[index * BLOCK : (index + 1) * BLOCK] == os.pread(fd, BLOCK, index * BLOCK)


def test_a_connection_that_stalls_is_overtaken(bucket, content, mnt, cache_dir):
    """Each way of stalling, one block after the other, all over the file so that nothing is read ahead."""
    bucket.behave = lambda _asked: Behaviour(delay_s=FIRST_BYTE_S)
    (port,) = free_ports(1)
    options = ("--block-size", BLOCK, "--policy", "demand", "--http", f"127.0.0.1:{port}")
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options):
        fd = os.open(mnt / NAME, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for index in range(BLOCKS - 1, 0, -3):
            read_block(fd, content, index)
        for place, how in enumerate(
            [
                Behaviour(delay_s=30.0),
                Behaviour(delay_s=FIRST_BYTE_S, stall_after=0),
                Behaviour(delay_s=FIRST_BYTE_S, stall_after=BLOCK // 2),
                Behaviour(delay_s=FIRST_BYTE_S, stall_after=BLOCK - 1),
                Behaviour(delay_s=FIRST_BYTE_S, trickle_s=0.5),
            ]
        ):
            index = 1 + 3 * (2 * place + 1)
            first = iter([how])
            bucket.behave = lambda asked, first=first: next(first, Behaviour(delay_s=FIRST_BYTE_S))
            read_block(fd, content, index)
        os.close(fd)
        counted = metrics(port)

    assert 5 <= counted["lazyfs_hedges_won_total"]
    sent = sum(asked.span[1] - asked.span[0] for _, asked in bucket.gets)
    assert counted['lazyfs_fetch_bytes_total{tier="network"}'] <= sent


def test_readers_wait_while_the_server_is_away_and_go_on_soon_after(bucket, content, mnt, cache_dir):
    (port,) = free_ports(1)
    options = ("--block-size", BLOCK, "--policy", "demand", "--http", f"127.0.0.1:{port}")
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options) as mount:
        fd = os.open(mnt / NAME, os.O_RDONLY)
        assert content[:10] == os.pread(fd, 10, 0)
        bucket.close()
        with ThreadPoolExecutor(8) as readers:
            waiting = [readers.submit(read_block, fd, content, index) for index in range(20, 84, 8)]
            mount.wait_for(lambda status: "is down" in status["oldest_wait"])
            assert 1 == metrics(port)["lazyfs_hosts_down"]
            time.sleep(2.0)
            assert not any(reading.done() for reading in waiting)

            again = FaultyBucket({NAME: content}, bucket.server.port)
            for reading in waiting:
                reading.result(60)
            os.close(fd)
        assert 0 == metrics(port)["lazyfs_hosts_down"]
        assert hashlib.sha256(content).digest() == hashlib.sha256((mnt / NAME).read_bytes()).digest()
        mount.wait_for_log("host_down")
        mount.wait_for_log("host_up")
        again.close()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Behaviour(status=403), errno.EACCES),
        (Behaviour(status=404), errno.ESTALE),
        (Behaviour(status=412), errno.ESTALE),
        (Behaviour(headers={"ETag": '"another"'}), errno.ESTALE),
    ],
)
def test_what_will_not_pass_is_told_at_once_and_by_its_name(bucket, mnt, cache_dir, how, expected):
    bucket.behave = lambda _asked: how
    options = ("--block-size", BLOCK, "--policy", "demand")
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options):
        with pytest.raises(OSError) as raised:
            (mnt / NAME).read_bytes()

        assert expected == raised.value.errno


def test_what_may_pass_is_an_error_only_after_the_deadline(bucket, mnt, cache_dir):
    bucket.behave = lambda _asked: Behaviour(status=500)
    options = ("--block-size", BLOCK, "--policy", "demand", "--read-deadline", 3)
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options):
        began_s = time.monotonic()
        with pytest.raises(OSError) as raised:
            (mnt / NAME).read_bytes()

        assert errno.EIO == raised.value.errno
        assert time.monotonic() - began_s >= 3.0


READS = {
    "a small read": "os.read(fd, 10)",
    "a large read": "open(path, 'rb').read()",
    "one of many blocks": f"os.preadv(fd, [bytearray({10 * BLOCK})], {5 * BLOCK + 77})",
    "a direct read": f"os.preadv(os.open(path, os.O_DIRECT), [mmap.mmap(-1, {10 * BLOCK})], 0)",
    "a page": f"mmap.mmap(fd, 0, prot=mmap.PROT_READ)[{30 * BLOCK}]",
    "a mapped file": f"mmap.mmap(fd, 0, prot=mmap.PROT_READ)[: {BLOCKS * BLOCK}]",
}
READER = """
import mmap, os, sys, time
path, took = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
os.utime(took)
try:
    {}
except OSError:
    sys.exit(1)
"""


def test_whatever_is_read_the_error_comes_at_the_deadline_and_not_twice_as_late(
    content, mnt, cache_dir, tmp_path, monkeypatch
):
    """The kernel repeats a read that failed, a page fault twice; each reads a file of its own."""
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(name, value)
    bucket = FaultyBucket({f"{place}.bin": content for place in range(len(READS))})
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint_url)
    options = ("--block-size", BLOCK, "--policy", "demand", "--read-deadline", DEADLINE_S)
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options) as mount:
        bucket.close()
        readers = {}
        for place, code in enumerate(READS.values()):
            began = tmp_path / f"{place}.began"
            began.touch()
            arguments = [sys.executable, "-c", READER.format(code), mnt / f"{place}.bin", began]
            readers[subprocess.Popen(arguments)] = began
        oldest_s, took_s = 0.0, {}
        while len(took_s) < len(readers):
            oldest_s = max(oldest_s, mount.status()["oldest_wait_s"])
            for reader, began in readers.items():
                if reader not in took_s and reader.poll() is not None:
                    took_s[reader] = time.time() - began.stat().st_mtime
            time.sleep(0.02)

    assert [1, 1, 1, 1, -signal.SIGBUS, -signal.SIGBUS] == [reader.returncode for reader in readers]
    assert all(DEADLINE_S <= seconds < 2 * DEADLINE_S for seconds in took_s.values()), took_s
    assert oldest_s >= DEADLINE_S


def test_readers_of_one_page_have_their_errors_together(bucket, mnt, cache_dir):
    """The kernel lets them ask one after the other, each with repeats of its own."""
    options = ("--block-size", BLOCK, "--policy", "demand", "--read-deadline", DEADLINE_S)
    code = f"mmap.mmap(fd, 0, prot=mmap.PROT_READ)[{30 * BLOCK}]"
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options) as mount:
        bucket.close()
        began_s = time.monotonic()
        arguments = [sys.executable, "-c", READER.format(code), mnt / NAME, cache_dir]
        readers = [subprocess.Popen(arguments) for _ in range(8)]
        assert {-signal.SIGBUS} == {reader.wait(120) for reader in readers}
        assert DEADLINE_S <= time.monotonic() - began_s < 2 * DEADLINE_S
        assert mount.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["dies", "is upgraded"])
def test_another_worker_does_not_begin_the_deadline_anew(bucket, mnt, cache_dir, number):
    options = ("--block-size", BLOCK, "--policy", "demand", "--read-deadline", 2 * DEADLINE_S)
    with (
        mounted(bucket.address, mnt, "--cache-dir", cache_dir, *options) as mount,
        ThreadPoolExecutor(1) as readers,
    ):
        bucket.close()
        began_s = time.monotonic()
        reading = readers.submit((mnt / NAME).read_bytes)
        mount.wait_for(lambda status: status["oldest_wait_s"] > DEADLINE_S)
        os.kill(mount.worker if number == signal.SIGKILL else mount.process.pid, number)

        assert errno.EIO == reading.exception(60).errno
        assert 2 * DEADLINE_S <= time.monotonic() - began_s < 3 * DEADLINE_S
