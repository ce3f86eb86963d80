"""Every byte right, whoever reads how. Each reader gets a cold mount and reads while it streams in."""

import hashlib
import json
import mmap
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import mounted

SHARDS = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.fixture
def mount(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, "--block-size", BLOCK) as found:
        yield found


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "command", [["cat"], ["dd", "bs=1M", "status=none", "if="], ["dd", "bs=777", "status=none", "if="]]
)
def test_cat_and_dd(mount, digests, command):
    for name, digest in digests.items():
        *head, last = command
        words = (
            [*head, last + str(mount.path / name)] if last == "if=" else [*command, str(mount.path / name)]
        )
        ran = subprocess.run(words, capture_output=True, check=True)
        assert digest == sha256(ran.stdout), name


@pytest.mark.parametrize("threads", [1, 4, 32])
def test_safetensors_by_mmap_from_threads_on_one_file(mount, model, threads):
    for shard in SHARDS:
        with safe_open(model / shard, "np") as file:
            expected = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with safe_open(mount.path / shard, "np") as file, ThreadPoolExecutor(threads) as pool:
            names = list(file.keys()) * 2
            random.Random(threads).shuffle(names)
            for name, tensor in zip(names, pool.map(file.get_tensor, names), strict=True):
                assert np.array_equal(expected[name].view(np.uint8), tensor.view(np.uint8)), name


SLICES = """
import sys, json, hashlib
from safetensors import safe_open
root, rank, ranks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
found = {}
for shard in sys.argv[4:]:
    with safe_open(f"{root}/{shard}", "np") as file:
        for name in file.keys():
            part = file.get_slice(name)
            rows, columns = part.get_shape()
            if hash(name[-1]) % 2 or name.endswith(("q", "k", "weight")):
                cut = part[rows * rank // ranks : rows * (rank + 1) // ranks]
            else:
                cut = part[:, columns * rank // ranks : columns * (rank + 1) // ranks]
            found[name] = hashlib.sha256(cut.tobytes()).hexdigest()
print(json.dumps(found))
"""


def test_four_ranks_each_with_its_slice_of_every_tensor(mount, model):
    def ranks(root):
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", SLICES, str(root), str(rank), "4", *SHARDS],
                stdout=subprocess.PIPE,
                env=environment,
            )
            for rank in range(4)
        ]
        return [json.loads(process.communicate()[0]) for process in started]

    assert ranks(model) == ranks(mount.path)


def test_eight_threads_of_16_mib_preads(mount, model, digests):
    piece = 16 << 20

    def read(name):
        fd = os.open(mount.path / name, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            with ThreadPoolExecutor(8) as pool:
                return b"".join(
                    pool.map(lambda at: pread(fd, at, min(piece, size - at)), range(0, size, piece))
                )
        finally:
            os.close(fd)

    for name in SHARDS:
        assert digests[name] == sha256(read(name))


def pread(fd, offset, size):
    parts = []
    while size:
        parts.append(os.pread(fd, size, offset))
        assert parts[-1]
        offset, size = offset + len(parts[-1]), size - len(parts[-1])
    return b"".join(parts)


def direct(path: Path, step: int) -> bytes:
    """Read a file past the page cache."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, step)
    try:
        content, offset = [], 0
        while got := os.preadv(fd, [buffer], offset):
            content.append(buffer[:got])
            offset += got
        return b"".join(content)
    finally:
        os.close(fd)
        buffer.close()


@pytest.mark.parametrize("step", [4096 * 3, 1 << 20, 5 << 20])
def test_direct_reads(mount, digests, step):
    with ThreadPoolExecutor(4) as pool:
        for name, content in zip(
            digests, pool.map(lambda n: direct(mount.path / n, step), digests), strict=True
        ):
            assert digests[name] == sha256(content), name


def test_random_4_kib_reads(mount, model):
    chance = random.Random(3)
    for name in SHARDS:
        expected = (model / name).read_bytes()
        fd = os.open(mount.path / name, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(300):
            offset = chance.randrange(len(expected))
            assert expected[offset : offset + 4096] == os.pread(fd, 4096, offset)
        os.close(fd)


def test_reads_at_and_beyond_the_end(mount, model):
    size = (model / SHARDS[0]).stat().st_size
    fd = os.open(mount.path / SHARDS[0], os.O_RDONLY)
    try:
        assert (model / SHARDS[0]).read_bytes()[-10:] == os.pread(fd, 100, size - 10)
        assert b"" == os.pread(fd, 100, size)
        assert b"" == os.pread(fd, 100, size + 10**9)
    finally:
        os.close(fd)


def test_sizes_around_a_block(bucket, endpoint, mnt, cache_dir, pattern_bytes):
    sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 4095, 4096, 4097]
    for size in sizes:
        bucket.put(f"{size}.bin", pattern_bytes(size, size))
    for _ in range(2):  # cold, then from the cache
        with mounted(bucket.address, mnt, "--cache-dir", cache_dir, "--block-size", BLOCK) as mount:
            for size in sizes:
                assert size == (mnt / f"{size}.bin").stat().st_size
                assert pattern_bytes(size, size) == (mnt / f"{size}.bin").read_bytes()
            mount.complete()


def test_2500_keys_nested_prefixes_and_odd_names(bucket, endpoint, mnt, cache_dir):
    odd = ["with space", "quote'and\"", "100%", "a+b", "#1", "ünï/模型", "q?x=1&y", "~", "(a)[b]{c}"]
    names = [f"deep/{number % 5}/{number % 11}/{number:05d}.txt" for number in range(2500)] + [
        f"odd/{n}" for n in odd
    ]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: bucket.put(name, name.encode()), names))
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir) as mount:
        found = {str(path.relative_to(mnt)) for path in mnt.rglob("*") if path.is_file()}
        assert set(names) == found
        for name in [*names[::97], *(f"odd/{n}" for n in odd)]:
            assert name.encode() == (mnt / name).read_bytes()
        mount.complete()
        subprocess.run(["grep", "-rq", "no such text", str(mnt / "deep")], check=False)
        assert 0 == mount.status()["errors"]


def test_names_that_cannot_be_files_are_left_out_with_a_warning(bucket, endpoint, mnt, cache_dir):
    for name in ("good", ".lazyfs/status.json"):
        bucket.put(name, b"1")
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir) as mount:
        assert ["good"] == os.listdir(mnt)
        assert ["name_refused name='.lazyfs/status.json' why=\".lazyfs is lazyfs' own\""] == [
            line.partition("WARNING ")[2] for line in mount.wait_for_log("name_refused")
        ]


def test_a_local_directory_is_mounted_the_same_way(model, digests, mnt, cache_dir):
    for _ in range(2):
        with mounted(f"file://{model}", mnt, "--cache-dir", cache_dir, "--block-size", BLOCK) as mount:
            assert digests == {name: sha256((mnt / name).read_bytes()) for name in digests}
            mount.complete()


def test_a_directory_whose_name_is_no_utf_8(tmp_path, mnt, cache_dir):
    source = tmp_path / os.fsdecode(b"n\xff")
    source.mkdir()
    (source / os.fsdecode(b"\xfe")).write_bytes(b"content")
    with mounted(f"FILE://{source}", mnt, "--cache-dir", cache_dir) as mount:
        assert b"content" == (mnt / os.fsdecode(b"\xfe")).read_bytes()
        assert str(source) in mount.status()["source"]


def test_without_a_cache_every_byte_is_right_too(hosted, endpoint, digests, mnt):
    with mounted(
        hosted.address, mnt, "--cache-size", "0", "--memory", "64MiB", "--block-size", BLOCK
    ) as mount:
        assert digests == {name: sha256((mnt / name).read_bytes()) for name in digests}
        assert 0 == mount.status()["cache_bytes"]


def test_a_cache_smaller_than_the_model_serves_what_it_cannot_keep(hosted, endpoint, digests, mnt, cache_dir):
    options = ("--cache-dir", cache_dir, "--cache-size", "20MB", "--block-size", BLOCK)
    for _ in range(2):
        with mounted(hosted.address, mnt, *options) as mount:
            assert digests == {name: sha256((mnt / name).read_bytes()) for name in digests}
            mount.wait_for(lambda status: status["declined"] > 0)
            used = sum(path.stat().st_blocks * 512 for path in cache_dir.rglob("data"))
            assert used < 21_000_000
