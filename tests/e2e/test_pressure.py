"""A real limit on memory, a real disk that fails, through real mounts."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from lazyfs.fuse.mountinfo import mounted_at
from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import lazyfs, mounted
from tests.faults.cgroup import memory_group
from tests.faults.disk import HANG, FaultyDisk, waited_for

MIB = 1 << 20
needs_root = pytest.mark.skipif(bool(os.geteuid()), reason="needs root")


def read_all(mnt, digests):
    """Read everything as eight threads; the page cache is not asked."""
    assert digests == dict(ThreadPoolExecutor(8).map(lambda name: (name, digest_of(mnt / name)), digests))


def digest_of(path):
    found = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := os.read(fd, MIB):
            found.update(piece)
    finally:
        os.close(fd)
    return found.hexdigest()


# -- memory ------------------------------------------------------------------------------------------------

BIG_FILES = 8
BIG_BYTES = int(os.environ.get("TEST_MODEL_MIB", "512")) * MIB // BIG_FILES


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A model of 512 MiB (or TEST_MODEL_MIB) in a directory, and what its files' checksums are."""
    root = tmp_path_factory.mktemp("big")
    for number in range(BIG_FILES):
        seed = hashlib.sha256(bytes([number])).digest()
        piece = b"".join(hashlib.sha256(seed + bytes(2) + n.to_bytes(4)).digest() for n in range(MIB // 32))
        with (root / f"model-{number}.safetensors").open("wb") as file:
            for part in range(BIG_BYTES // MIB):
                file.write(part.to_bytes(8) + piece[8:])
    return root, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.iterdir())}


@pytest.fixture
def group():
    with memory_group(256 * MIB) as found:
        yield found


READER = """
import hashlib, json, mmap, os, random, sys
root, digests, number = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
names = list(digests)
random.Random(number).shuffle(names)
for name in names:
    found = hashlib.sha256()
    with open(f"{root}/{name}", "rb", buffering=0) as file:
        if number % 2:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                for start in range(0, len(mapped), 1 << 20):
                    found.update(mapped[start : start + (1 << 20)])
        else:
            while piece := file.read(1 << 20):
                found.update(piece)
    assert digests[name] == found.hexdigest(), name
"""


def test_32_readers_of_a_mount_with_256_mib_of_memory(big, mnt, cache_dir, group):
    root, digests = big
    with mounted(f"file://{root}", mnt, "--cache-dir", cache_dir, joining=group.join) as mount:
        assert mount.status()["memory_budget_bytes"] <= 64 * MIB
        readers = [
            subprocess.Popen([sys.executable, "-c", READER, str(mnt), json.dumps(digests), str(number)])
            for number in range(32)
        ]
        try:
            assert {0} == {reader.wait(100) for reader in readers}
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        # Not its peak: pages of the source's files are charged to whoever reads them again after others left.
        assert 0 == group.kills


def test_64_mib_of_memory_are_refused_with_what_is_needed(model, mnt, cache_dir, group):
    mnt.mkdir()
    group.limit(64 * MIB)
    ran = lazyfs("mount", f"file://{model}", mnt, "--cache-dir", cache_dir, joining=group.join)

    assert 9 == ran.returncode
    assert (
        "lazyfs: the memory limit is 64MiB, and a mount needs 192MiB with blocks of 8MiB; "
        "raise the limit, better to 512MiB\n" == ran.stderr
    )
    assert 0 == group.kills


def test_a_budget_that_does_not_fit_the_limit_is_refused_with_one_that_does(model, mnt, cache_dir, group):
    mnt.mkdir()
    options = ("--cache-dir", cache_dir, "--memory", "200MiB")
    ran = lazyfs("mount", f"file://{model}", mnt, *options, joining=group.join)

    assert 9 == ran.returncode
    assert "with --memory 200MiB a mount needs 360MiB; raise the limit, or give --memory 96MiB" in ran.stderr


def test_a_limit_that_is_lowered_while_mounted_is_followed(big, mnt, cache_dir, group):
    root, digests = big
    group.limit(1024 * MIB)
    options = ("--cache-dir", cache_dir, "--policy", "demand")
    with mounted(f"file://{root}", mnt, *options, joining=group.join) as mount:
        assert 256 * MIB == mount.status()["memory_budget_bytes"]
        read_all(mnt, dict(list(digests.items())[:4]))
        for limit_mib in range(480, 200, -16):
            waited_for(lambda limit=limit_mib * MIB: lowered(group, limit))
            read_all(mnt, dict(list(digests.items())[:1]))
        status = mount.wait_for(lambda status: status["memory_budget_bytes"] < 180 * MIB)
        assert status["memory_bytes"] <= status["memory_budget_bytes"]
        read_all(mnt, digests)
        assert 0 == group.kills
        mount.wait_for_log("memory_squeezed")


def lowered(group, limit_bytes):
    """Lower a limit; a cgroup of the first version refuses while more is used."""
    with suppress(OSError):
        group.limit(limit_bytes)
        return True


# -- the disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    with FaultyDisk(tmp_path) as found:
        yield found


def mounted_on(disk, model, mnt, *options):
    cache = ("--cache-dir", disk.root / "cache", "--block-size", BLOCK)
    return mounted(f"file://{model}", mnt, *cache, *options)


@needs_root
def test_a_disk_that_hangs_keeps_no_reader_and_is_told(model, digests, mnt, disk):
    with mounted_on(disk, model, mnt) as mount:
        mount.complete()
        disk.fail(read=HANG, write=HANG)
        time.sleep(4)  # what is in memory leaves
        read_all(mnt, digests)
        status = mount.status()
        assert "bypass" == status["cache_state"]
        assert "reading: it does not answer within" in status["cache_why"]
        assert "the disk of the cache is in state bypass: reading" in lazyfs("status", mnt).stdout
        mount.wait_for_log("cache_trouble")
        assert 0 == status["repairs"]
        # The kernel keeps threads that wait for such a disk, and the process; the mount is gone all the same.
        mount.process.send_signal(signal.SIGTERM)
        waited_for(lambda: mounted_at(mnt) is None, 2.0)
        disk.fail()
        mount.process.wait(60)


@needs_root
def test_a_disk_that_refuses_writes_is_used_again_when_it_takes_them(model, digests, mnt, disk):
    with mounted_on(disk, model, mnt, "--policy", "demand") as mount:
        disk.fail(write="ENOSPC")
        read_all(mnt, digests)
        status = mount.wait_for(lambda status: status["cache_state"] in {"bypass", "probing"})
        assert "writing: No space left on device" == status["cache_why"]
        assert status["declined"] > 0
        disk.fail()
        mount.wait_for(lambda status: status["cache_state"] == "healthy")
        read_all(mnt, digests)
        assert 1 == len(mount.wait_for_log("cache_trouble"))
        assert 1 == len(mount.wait_for_log("cache_recovered"))


def test_a_cache_that_is_deleted_while_mounted_is_made_anew(model, digests, mnt, cache_dir):
    options = ("--cache-dir", cache_dir, "--block-size", BLOCK)
    with mounted(f"file://{model}", mnt, *options) as mount:
        mount.complete()
        shutil.rmtree(cache_dir)
        time.sleep(4)  # what is in memory leaves

        read_all(mnt, digests)
        mount.wait_for(lambda status: status["bytes_local"] == status["bytes_needed"])
        assert mount.status()["cache_state"] in {"healthy", "degraded"}  # the source is faster than a disk
    with mounted(f"file://{model}", mnt, *options) as mount:
        assert "complete" == mount.status()["phase"]
        read_all(mnt, digests)
        assert 0 == mount.status()["bytes_fetched"] == mount.status()["repairs"]
