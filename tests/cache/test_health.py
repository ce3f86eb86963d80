"""Disks that are full, read-only, failing, slow or gone: what a store makes of them. On real file systems."""

import os
import shutil
import subprocess
import threading
import time
from contextlib import suppress

import pytest

from lazyfs.cache import health
from lazyfs.cache.store import Outcome
from lazyfs.core import diskhealth
from lazyfs.core.blob import BlobRef, BlockKey
from lazyfs.core.diskhealth import DiskState
from lazyfs.errors import BlockCorrupt, BlockGone, BlockUnreadable, CacheUnusable
from tests.cache.rig import A, B, block, files, opened, read, write
from tests.faults.disk import HANG, FaultyDisk, waited_for

STORED, TROUBLE = Outcome.STORED, Outcome.DISK_TROUBLE
needs_root = pytest.mark.skipif(bool(os.geteuid()), reason="mounting a file system needs root")
pytestmark = [needs_root]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A file system that fails when it is told to."""
    with FaultyDisk(tmp_path) as found:
        yield found


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(diskhealth, "PAUSE_MIN_S", 0.05)


def fill(path):
    fd = os.open(path / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)


def state(store):
    return store.health.look()[0]


@pytest.mark.real
@pytest.mark.logs("cache_trouble", "snapshot_not_saved")
def test_a_disk_that_fills_up_is_read_and_written_again_when_there_is_room(
    small_disk, content, short_pauses, caplog
):
    store = opened(small_disk / "cache")
    write(store, content, A, 0)
    fill(small_disk)

    assert TROUBLE in write(store, content, A, 1, 2, 3)
    assert (DiskState.BYPASS, "writing: No space left on device") == store.health.look()
    assert bytes(block(content[A], 0)) == read(store, A, 0)
    assert DiskState.BYPASS is state(store)  # what can be read says nothing of writing

    (small_disk / "filler").unlink()
    waited_for(lambda: store.writable)
    assert [STORED] == write(store, content, A, 3)
    assert (DiskState.HEALTHY, "") == store.health.look()
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert 1 == events.count("cache_trouble") == events.count("cache_recovered")


@pytest.mark.real
@pytest.mark.logs("cache_trouble")
def test_a_disk_that_becomes_read_only_is_read_and_not_written(small_disk, content, caplog):
    store = opened(small_disk / "cache")
    write(store, content, A, 0)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    assert [TROUBLE] * 3 == write(store, content, A, 1, 2, 3)
    assert (DiskState.BYPASS, "writing: Read-only file system") == store.health.look()
    assert bytes(block(content[A], 0)) == read(store, A, 0)
    assert 1 == store.health.errors[health.Deed.WRITING]  # the others were not tried
    assert "state=bypass why='Read-only file system'" in caplog.text


@pytest.mark.real
@pytest.mark.logs("cache_trouble", "snapshot_not_saved")
def test_a_read_only_disk_cannot_be_mounted_with_and_can_be_gone_on_with(small_disk, content):
    write(opened(small_disk / "cache"), content, A, 0)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(CacheUnusable, match="Read-only file system"):
        opened(small_disk / "cache")


@pytest.mark.real
@pytest.mark.logs("cache_trouble")
def test_a_disk_whose_writes_fail_is_probed_with_one_write_at_a_time(disk, content, short_pauses):
    store = opened(disk.root / "cache")
    disk.fail(write="EIO")
    assert [TROUBLE] * 3 == write(store, content, A, 0, 1, 2)
    assert (DiskState.BYPASS, "writing: Input/output error") == store.health.look()
    assert 1 == store.health.errors[health.Deed.WRITING]

    waited_for(lambda: store.writable)
    assert [TROUBLE] * 2 == write(store, content, A, 0, 1)
    assert 2 == store.health.errors[health.Deed.WRITING]
    assert 0 == store.stored_bytes == store.used_bytes

    disk.fail()
    waited_for(lambda: store.writable)
    assert [STORED] * 2 == write(store, content, A, 0, 1)
    assert bytes(block(content[A], 1)) == read(store, A, 1)


@pytest.mark.real
@pytest.mark.logs("cache_trouble")
def test_a_block_the_disk_cannot_read_is_corrupt_and_the_disk_is_still_tried(disk, content):
    store = opened(disk.root / "cache")
    write(store, content, A, 0, 1)
    disk.fail(read="EIO")

    with pytest.raises(BlockCorrupt, match="Input/output error"):
        read(store, A, 0)
    assert (DiskState.DEGRADED, "reading: Input/output error") == store.health.look()
    assert not store.has(BlockKey(A, 0))

    disk.fail()
    assert bytes(block(content[A], 1)) == read(store, A, 1)


@pytest.mark.real
@pytest.mark.logs("cache_trouble")
def test_a_disk_that_cannot_be_read_at_all_is_left_alone_and_keeps_its_blocks(disk, content, short_pauses):
    store = opened(disk.root / "cache")
    write(store, content, A, 0, 1)
    disk.fail(read="ENOTCONN")

    for _ in range(2):
        with pytest.raises(BlockUnreadable):
            read(store, A, 0)
    assert DiskState.BYPASS is state(store)
    assert store.has(BlockKey(A, 0))
    assert [STORED] == write(store, content, A, 0)  # it has come from the network, and is there

    disk.fail()
    waited_for(lambda: store.readable)
    assert bytes(block(content[A], 0)) == read(store, A, 0)
    assert DiskState.HEALTHY is state(store)


@pytest.mark.real
@pytest.mark.logs("cache_trouble")
def test_a_disk_that_is_slow_is_told_and_used(disk, content, monkeypatch):
    monkeypatch.setattr(health, "SLOW_S", 0.05)
    store = opened(disk.root / "cache")
    disk.fail(write=0.1)

    assert [STORED] * 2 == write(store, content, A, 0, 1)
    assert DiskState.DEGRADED is state(store)
    assert "it took 0." in store.health.look()[1]


@pytest.mark.real
@pytest.mark.logs("cache_trouble")
def test_a_write_that_hangs_and_ends_after_all_has_stored_its_block(disk, content):
    store = opened(disk.root / "cache")
    disk.fail(write=0.5)
    writing = threading.Thread(target=write, args=(store, content, A, 0))
    writing.start()
    time.sleep(0.1)
    store.write_hung(0.1)

    assert (DiskState.BYPASS, "writing: it does not answer within 0 s") == store.health.look()
    assert [TROUBLE] == write(store, content, A, 1)

    writing.join()
    assert bytes(block(content[A], 0)) == read(store, A, 0)
    assert DiskState.BYPASS is state(store)


@pytest.mark.real
@pytest.mark.logs("cache_read_hangs", "cache_trouble")
def test_a_read_that_hangs_leaves_its_block_where_it_is(disk, content):
    store = opened(disk.root / "cache")
    write(store, content, A, 0, 1)
    disk.fail(read=HANG)
    thread = threading.Thread(target=lambda: suppressed(read, store, A, 0), daemon=True)
    thread.start()

    store.read_hung(BlockKey(A, 0), 5.0)

    assert (DiskState.BYPASS, "reading: it does not answer within 5 s") == store.health.look()
    assert not store.readable
    assert store.has(BlockKey(A, 0))
    with pytest.raises(BlockUnreadable, match="not read for now"):
        read(store, A, 1)


def suppressed(call, *arguments):
    with suppress(BlockCorrupt):
        call(*arguments)


@pytest.mark.logs("cache_blob_gone")
@pytest.mark.parametrize("what", [".", "v2", "v2/objects", "v2/snapshots", "blob"])
def test_whatever_of_the_cache_is_deleted_is_made_anew(cache_dir, content, what):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    write(store, content, B, 0)
    shutil.rmtree(files(cache_dir, A)[0].parent if what == "blob" else cache_dir / what)

    for index in (0, 1, 2):
        with suppress(BlockGone):
            if store.has(BlockKey(A, index)):
                read(store, A, index)
        assert [STORED] == write(store, content, A, index)
        assert bytes(block(content[A], index)) == read(store, A, index)
    assert DiskState.HEALTHY is state(store)
    assert opened(cache_dir).has(BlockKey(A, 2))


@pytest.mark.logs("cache_blob_gone")
@pytest.mark.parametrize("file", [0, 1])
def test_one_file_of_a_blob_that_is_deleted_is_made_anew(cache_dir, content, file):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    files(cache_dir, A)[file].unlink()

    assert [STORED] == write(store, content, A, 2)
    assert bytes(block(content[A], 2)) == read(store, A, 2)
    assert bytes(block(content[A], 2)) == read(opened(cache_dir), A, 2)


@pytest.mark.logs("cache_blob_gone")
def test_a_cache_directory_that_is_replaced_by_another_is_used(cache_dir, content, tmp_path):
    store = opened(cache_dir)
    write(store, content, A, 0, 1)
    other = {A: BlobRef("x", "s3://x/x", "1", len(content[A]))}
    write(opened(tmp_path / "other", snapshot=other), content, A, 0)
    shutil.rmtree(cache_dir)
    (tmp_path / "other").rename(cache_dir)

    with pytest.raises(BlockGone):
        read(store, A, 0)
    assert [STORED] == write(store, content, A, 0)
    assert bytes(block(content[A], 0)) == read(store, A, 0)


@pytest.mark.logs("cache_trouble", "cache_blob_gone")
def test_a_cache_directory_in_whose_place_a_file_stands_is_trouble_and_no_more(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0)
    shutil.rmtree(cache_dir)
    cache_dir.write_text("no directory")

    with pytest.raises(BlockCorrupt):
        read(store, A, 0)
    assert [TROUBLE] == write(store, content, A, 1)
