"""Connections that stall and hosts that are away, below a real mount."""

import errno
import hashlib
import os
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
        assert time.monotonic() - began_s > 1.0
