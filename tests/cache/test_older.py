"""What versions with other keys have left in a cache: it counts, leaves first, and is never read."""

import os

import pytest

from lazyfs.cache.directory import open_directory
from lazyfs.core.blob import BlobRef
from tests.cache.rig import BLOCK, SIZE, A, blobs, opened, write

OLDER = 3 * BLOCK


def leave_older(root, *keys, bytes_each=OLDER):
    """Leave blobs as version 1 did, the first one used longest ago; return their directories."""
    found = []
    for number, key in enumerate(keys):
        path = root / "v1" / "objects" / key[:2] / key
        path.mkdir(parents=True)
        (path / "data").write_bytes(b"\xff" * bytes_each)
        (path / "blocks").write_bytes(b"an old table")
        (path / "meta.json").write_text("{}")
        os.utime(path / "meta.json", (10**9 + number, 10**9 + number))
        found.append(path)
    (root / "v1" / "snapshots").mkdir()
    return found


@pytest.mark.logs("cache_of_older_version")
def test_it_is_never_read_though_it_has_the_very_key(cache_dir, content):
    store = opened(cache_dir)
    write(store, content, A, 0, 1, 2, 3)
    (cache_dir / "v2").rename(cache_dir / "v1")

    assert 0 == opened(cache_dir).stored_bytes


@pytest.mark.logs("cache_of_older_version")
def test_it_is_said_once_with_its_size_and_how_to_free_it(cache_dir, caplog):
    leave_older(cache_dir, "a" * 64, "b" * 64)

    opened(cache_dir)

    (said,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("cache_of_older_version")]
    assert f"bytes={2 * OLDER}" in said
    assert "did not tell all servers apart" in said
    assert f"rm -r {cache_dir}/v1" in said


def test_nothing_is_said_where_there_is_none(cache_dir, caplog):
    opened(cache_dir)
    opened(cache_dir)

    assert "cache_of_older_version" not in caplog.text


@pytest.mark.logs("cache_of_older_version", "cache_too_small")
def test_it_leaves_before_anything_else_and_the_limit_holds(cache_dir, content):
    """Also before what was used longer ago, and the one of the older that was used longest ago at first."""
    other = {A: BlobRef("c", "s3://x/c", "1", SIZE)}
    write(opened(cache_dir, snapshot=other), {A: content[A]}, A, 0)
    os.utime(open_directory(cache_dir).blob_path(other[A].store_key) / "meta.json", (1, 1))
    first, second = leave_older(cache_dir, "a" * 64, "b" * 64)
    store = opened(cache_dir, budget=2 * OLDER + BLOCK)

    write(store, content, A, 0)
    assert (False, True) == (first.exists(), second.exists())
    write(store, content, A, 1, 2, 3)

    assert not second.exists()
    assert other[A].store_key in {blob.store_key for blob in open_directory(cache_dir).stored()}
    kept = sum(path.stat().st_blocks * 512 for path in cache_dir.rglob("data"))
    assert kept <= 2 * OLDER + BLOCK


@pytest.mark.logs("cache_of_older_version", "cache_too_small")
def test_it_counts_for_auto_and_is_no_share_of_a_mount(cache_dir, content):
    leave_older(cache_dir, blobs()[A].store_key)

    store = opened(cache_dir, budget=None, share_bytes=BLOCK)

    assert OLDER == store.used_bytes
    assert store.capacity_bytes >= OLDER
    assert ["stored"] == write(store, content, A, 0)


def test_what_is_left_of_it_goes_with_its_last_blob(cache_dir):
    (path,) = leave_older(cache_dir, "a" * 64)
    (cache_dir / "v1" / "snapshots" / "x.json").write_text("{}")
    directory = open_directory(cache_dir)
    assert path.exists()

    directory.remove(*directory.stored())
    open_directory(cache_dir)

    assert ["v2"] == os.listdir(cache_dir)


def test_what_an_older_version_still_stores_is_left_alone_while_there_is_room(cache_dir):
    open_directory(cache_dir)
    leave_older(cache_dir, "c" * 64)

    open_directory(cache_dir)

    assert (cache_dir / "v1" / "objects" / "cc" / ("c" * 64) / "data").exists()
