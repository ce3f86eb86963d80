import errno
import json
import os
import shutil
import stat
import subprocess
from contextlib import suppress

import pytest
import xxhash

from lazyfs.cache import store as store_module
from lazyfs.cache.directory import CacheDirectory, open_directory
from lazyfs.cache.store import Outcome
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.manifest import build
from lazyfs.errors import BlockCorrupt, BlockGone, CacheUnusable
from tests.cache.rig import BLOCK, SIZE, A, B, aligned, blobs, block, files, opened, read, write


def test_what_was_written_is_read_back_in_this_process_and_the_next(cache_dir, content):
    store = opened(cache_dir)
    assert [Outcome.STORED] * 3 == write(store, content, A, 0, 2, 3)

    for found in (store, opened(cache_dir)):
        assert [True, False, True, True] == [found.has(BlockKey(A, index)) for index in range(4)]
        for index in (0, 2, 3):
            assert bytes(block(content[A], index)) == read(found, A, index)


def test_a_complete_blob_is_the_file_byte_for_byte(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 3, 1, 0, 2)
    data, blocks, meta = files(cache_dir, A)

    assert content[A] == data.read_bytes()
    seed = int(blobs()[A].store_key[:16], 16)
    entries = [
        xxhash.xxh3_64_intdigest(block(content[A], index), (seed + index) % 2**64) for index in range(4)
    ]
    assert b"".join(entry.to_bytes(8, "little") for entry in entries) == blocks.read_bytes()[-32:]
    assert ("a", SIZE, "s3://x/a") == tuple(
        json.loads(meta.read_text())[n] for n in ("name", "size", "source")
    )
    assert SIZE == store.stored_bytes


def test_what_is_spared_is_stored_and_not_missed(cache_dir, content):
    store = opened(cache_dir, spared=frozenset({B}))
    write(store, content, B, 0, 1)

    assert store.has(BlockKey(B, 0))
    assert (0, SIZE) == (store.stored_bytes, store.missing_bytes)
    write(store, content, A, 0, 1, 2, 3)
    assert (SIZE, 0) == (store.stored_bytes, store.missing_bytes)


def test_the_layout_is_the_documented_one(cache_dir, content):
    write(opened(cache_dir), content, A, 0)
    key = blobs()[A].store_key
    manifest = build("s3://x", blobs().values())

    found = {str(path.relative_to(cache_dir)) for path in cache_dir.rglob("*") if path.is_file()}

    objects = f"v2/objects/{key[:2]}/{key}"
    assert {
        f"{objects}/data",
        f"{objects}/blocks",
        f"{objects}/meta.json",
        f"v2/snapshots/{manifest.snapshot_id}.json",
    } == found
    assert 0o700 == stat.S_IMODE(cache_dir.stat().st_mode)


def test_a_write_torn_before_its_checksum_is_absent(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0)
    with files(cache_dir, A)[0].open("r+b") as file:
        file.seek(BLOCK)
        file.write(b"half a block")

    assert not opened(cache_dir).has(BlockKey(A, 1))


@pytest.mark.logs("cache_table_rejected")
def test_another_block_size_starts_the_blob_anew(cache_dir, content):
    write(opened(cache_dir), content, A, 0, 1, 2, 3)
    larger = Grid(2 * BLOCK)
    store = opened(cache_dir, grid=larger)

    assert not store.has(BlockKey(A, 0))
    assert Outcome.STORED == store.write(BlockKey(A, 0), aligned(memoryview(content[A])[: 2 * BLOCK]))
    assert opened(cache_dir, grid=larger).has(BlockKey(A, 0))


@pytest.mark.real
@pytest.mark.logs("cache_blob_gone")
def test_a_cache_that_is_deleted_while_mounted_is_made_anew(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    subprocess.run(["rm", "-r", str(cache_dir)], check=True)

    with pytest.raises(BlockCorrupt):
        read(store, A, 0)
    assert [Outcome.STORED] == write(store, content, A, 0)
    assert bytes(block(content[A], 0)) == read(store, A, 0)


# -- the budget ------------------------------------------------------------------------------------------


def other_blob(number):
    return {A: BlobRef(f"old-{number}", f"s3://x/old-{number}", "1", SIZE)}


def allocated(root):
    return sum(blob.allocated_bytes for blob in open_directory(root).stored())


@pytest.mark.logs("cache_too_small")
def test_what_does_not_fit_is_declined_and_nothing_of_the_mounted_snapshot_leaves(cache_dir, content):
    store = opened(cache_dir, budget=5 * BLOCK)

    outcomes = write(store, content, A, 0, 1, 2, 3) + write(store, content, B, 0, 1, 2, 3)

    assert [Outcome.STORED] * 4 == outcomes[:4]
    assert [Outcome.STORED, Outcome.OVER_BUDGET, Outcome.OVER_BUDGET] == outcomes[4:7]
    assert content[A] == files(cache_dir, A)[0].read_bytes()
    assert allocated(cache_dir) <= 6 * BLOCK


def test_whole_blobs_of_other_snapshots_leave_longest_unused_first(cache_dir, content):
    for number in range(3):
        snapshot = other_blob(number)
        store = opened(cache_dir, snapshot=snapshot)
        write(store, {A: content[A]}, A, 0, 1, 2, 3)
        path = open_directory(cache_dir).blob_path(snapshot[A].store_key)
        os.utime(path / "meta.json", (1000 + [5, 3, 9][number],) * 2)
    one = allocated(cache_dir) // 3
    store = opened(cache_dir, budget=3 * one)

    write(store, content, B, 0)

    left = {blob.store_key for blob in open_directory(cache_dir).stored()}
    keys = [other_blob(number)[A].store_key for number in range(3)]
    assert {keys[0], keys[2], blobs()[B].store_key} == left


def test_mounting_a_snapshot_makes_it_the_last_to_leave(cache_dir, content):
    for number in range(2):
        store = opened(cache_dir, snapshot=other_blob(number))
        write(store, {A: content[A]}, A, 0)
        path = open_directory(cache_dir).blob_path(other_blob(number)[A].store_key)
        os.utime(path / "meta.json", (1000 + number,) * 2)

    opened(cache_dir, snapshot=other_blob(0))

    assert other_blob(0)[A].store_key == open_directory(cache_dir).stored()[-1].store_key


@pytest.mark.logs("cache_blob_gone")
def test_a_blob_that_was_evicted_while_open_elsewhere_is_made_anew(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    directory = open_directory(cache_dir)
    directory.remove(directory.stored()[0])

    assert [Outcome.STORED] == write(store, content, A, 2)
    assert not store.has(BlockKey(A, 0))
    assert bytes(block(content[A], 2)) == read(opened(cache_dir), A, 2)


@pytest.mark.logs("cache_blob_gone")
def test_a_blob_whose_files_are_gone_is_forgotten_at_once(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    shutil.rmtree(files(cache_dir, A)[0].parent)

    with pytest.raises(BlockGone):
        read(store, A, 0)

    assert not store.has(BlockKey(A, 1))
    assert 0 == store.stored_bytes == store.used_bytes
    assert [Outcome.STORED] == write(store, content, A, 0)
    assert bytes(block(content[A], 0)) == read(store, A, 0)


def test_a_block_that_was_forgotten_takes_no_room(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    used_bytes = store.used_bytes

    for _ in range(3):
        store.forget(BlockKey(A, 0))
        write(store, content, A, 0)

    assert used_bytes == store.used_bytes


def test_what_is_no_blob_in_the_directory_is_passed_over(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0)
    (cache_dir / "v2" / "objects" / "ab").mkdir(exist_ok=True)
    (cache_dir / "v2" / "objects" / "ab" / "stray").write_text("not ours")

    assert 1 == len(open_directory(cache_dir).stored())


@pytest.mark.logs("cache_too_small")
def test_a_share_bounds_what_is_our_own_and_nobody_leaves_for_more_of_it(cache_dir, content):
    snapshot = other_blob(0)
    write(opened(cache_dir, snapshot=snapshot), {A: content[A]}, A, 0, 1, 2, 3)
    store = opened(cache_dir, share_bytes=2 * BLOCK)

    assert [Outcome.STORED] * 2 + [Outcome.OVER_BUDGET] == write(store, content, B, 0, 1, 2)

    store = opened(cache_dir, share_bytes=3 * BLOCK)
    assert [Outcome.STORED, Outcome.OVER_BUDGET] == write(store, content, A, 0, 1)
    assert SIZE == opened(cache_dir, snapshot=snapshot).stored_bytes


@pytest.mark.logs("cache_evict_failed", "cache_too_small")
def test_a_blob_that_cannot_be_removed_is_no_readers_trouble(cache_dir, content, monkeypatch):
    snapshot = other_blob(0)
    write(opened(cache_dir, snapshot=snapshot), {A: content[A]}, A, 0, 1, 2, 3)
    store = opened(cache_dir, budget=4 * BLOCK)

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(CacheDirectory, "remove", refuse)

    assert [Outcome.OVER_BUDGET] == write(store, content, B, 0)


@pytest.mark.logs("cache_blob_gone", "cache_trouble")
@pytest.mark.parametrize("deed", ["write", "read"])
def test_a_blob_that_is_made_anew_meanwhile_loses_no_block_of_either(cache_dir, content, monkeypatch, deed):
    store = opened(cache_dir)
    write(store, content, A, 0)
    real = getattr(store_module, f"{deed}_block")

    def meanwhile(path, *given, **how):
        """Somebody deletes the blob, and another thread begins it anew."""
        monkeypatch.setattr(store_module, f"{deed}_block", real)
        before = real(path, *given, **how) if deed == "write" else None
        shutil.rmtree(path.parent)
        assert [Outcome.STORED] == write(store, content, A, 1)
        if deed == "read":
            write(store, content, A, 0)
            given[1][:] = bytes(len(given[1]))  # it was read before its bytes were there
            return len(given[1])
        return before

    monkeypatch.setattr(store_module, f"{deed}_block", meanwhile)
    if deed == "write":
        write(store, content, A, 2)
        there = (1, 2)
    else:
        with pytest.raises(BlockCorrupt):
            read(store, A, 0)
        there = (0, 1)

    again = opened(cache_dir)
    for index in there:
        assert store.has(BlockKey(A, index))
        assert again.has(BlockKey(A, index))
        assert bytes(block(content[A], index)) == read(again, A, index)
    assert again.used_bytes == store.used_bytes


# -- disks that do not do what they should ------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB; needs root."""
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(path):
    fd = os.open(path / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)


@pytest.mark.real
@pytest.mark.logs("cache_trouble", "snapshot_not_saved")
def test_a_disk_that_fills_up_declines_and_goes_on_reading(small_disk, content):
    store = opened(small_disk / "cache")
    write(store, content, A, 0)
    fill(small_disk)

    assert Outcome.DISK_TROUBLE in write(store, content, A, 1, 2, 3)
    assert bytes(block(content[A], 0)) == read(store, A, 0)


@pytest.mark.real
def test_a_full_disk_that_lacks_something_is_refused_with_the_cure(small_disk, content):
    fill(small_disk)

    with pytest.raises(CacheUnusable, match=r"is full.*--cache-size 0"):
        opened(small_disk / "cache")


@pytest.mark.logs("cache_too_small")
def test_a_budget_without_room_for_the_snapshot_is_said(tmp_path, content, caplog):
    opened(tmp_path / "cache", budget=SIZE)

    assert f"cache_too_small missing={2 * SIZE} room={SIZE}" in caplog.text


@pytest.mark.real
def test_a_full_disk_that_has_everything_is_fine(small_disk, content):
    store = opened(small_disk / "cache")
    for inode in (A, B):
        write(store, content, inode, 0, 1, 2, 3)
    fill(small_disk)

    assert bytes(block(content[A], 0)) == read(opened(small_disk / "cache"), A, 0)


@pytest.mark.real
@pytest.mark.logs("cache_without_direct_io")
def test_a_file_system_without_direct_io_works_and_says_what_it_costs(tmp_path, content, caplog):
    if os.geteuid():
        pytest.skip("mounting ramfs needs root")
    path = tmp_path / "ram"
    path.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", str(path)], check=True)
    try:
        write(opened(path), content, A, 0, 1, 2, 3)
        assert [bytes(block(content[A], index)) for index in range(4)] == [
            read(opened(path), A, i) for i in range(4)
        ]
        assert "put --cache-dir on ext4 or xfs" in caplog.text
    finally:
        subprocess.run(["umount", str(path)], check=True)
