import os

import pytest

from lazyfs.bench import disk
from lazyfs.bench.disk import Disk, NoDisk
from lazyfs.cache.directory import CacheDirectory
from lazyfs.errors import CacheUnusable

BLOCK = 1 << 20


@pytest.fixture(autouse=True)
def _little(monkeypatch):
    monkeypatch.setattr(disk, "WRITTEN_BYTES_MAX", 8 * BLOCK)


def test_blocks_are_written_and_read_and_nothing_is_left(cache_dir):
    cache_dir.mkdir()

    found = disk.measure(cache_dir, BLOCK, 5.0)

    assert isinstance(found, Disk)
    assert 8 * BLOCK == found.written_bytes
    assert found.rates.write_bytes_per_s > 0
    assert found.rates.read_bytes_per_s > 0
    assert [] == os.listdir(cache_dir)


def test_a_cache_directory_that_does_not_exist_is_not_made(cache_dir):
    found = disk.measure(cache_dir / "deep" / "er", BLOCK, 5.0)

    assert isinstance(found, Disk)
    assert [] == os.listdir(cache_dir.parent)


def test_what_is_cached_is_not_touched(cache_dir):
    (cache_dir / "v2" / "objects").mkdir(parents=True)
    (cache_dir / "v2" / "objects" / "kept").write_text("yes")

    disk.measure(cache_dir, BLOCK, 5.0)

    assert ["kept"] == os.listdir(cache_dir / "v2" / "objects")


def test_a_disk_that_stays_free_for_others_is_not_written_to(cache_dir, monkeypatch):
    monkeypatch.setattr(CacheDirectory, "capacity_bytes", lambda *_: 3 * BLOCK)

    found = disk.measure(cache_dir, BLOCK, 5.0)

    assert isinstance(found, NoDisk)
    assert "no room" in found.why
    assert [] == os.listdir(cache_dir.parent)


def test_what_the_cache_may_hold_is_what_it_holds_and_what_is_free(cache_dir):
    free = disk.capacity_bytes(cache_dir)
    blob = cache_dir / "v2" / "objects" / "ab" / "abc"
    blob.mkdir(parents=True)
    (blob / "data").write_bytes(bytes(1 << 20))
    (blob / "meta.json").write_text("{}")

    assert free > 0
    assert pytest.approx(free, rel=0.05) == disk.capacity_bytes(cache_dir)


def test_a_file_where_the_directory_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CacheUnusable, match="file is not a directory; .*--cache-dir"):
        disk.place(tmp_path / "file" / "cache")
