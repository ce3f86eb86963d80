"""A damaged cache through a real mount: right bytes, counted, whole again. All kinds are in tests/cache."""

import os

import pytest

from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import mounted
from tests.e2e.test_pressure import read_all


def files(cache_dir, name):
    """Return the largest and the next file of that name."""
    return sorted(cache_dir.rglob(name), key=lambda path: -(path.parent / "data").stat().st_size)[:2]


def flip(cache_dir):
    path = files(cache_dir, "data")[0]
    body = bytearray(path.read_bytes())
    body[BLOCK + 5] ^= 1
    path.write_bytes(body)


def zeros(cache_dir):
    with files(cache_dir, "data")[0].open("r+b") as into:
        into.seek(2 * BLOCK)
        into.write(bytes(BLOCK))


def cut(cache_dir):
    path = files(cache_dir, "data")[0]
    os.truncate(path, path.stat().st_size - 10)


def swap(cache_dir):
    one, other = files(cache_dir, "data")
    aside = cache_dir / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def table(cache_dir):
    path = files(cache_dir, "blocks")[0]
    body = bytearray(path.read_bytes())
    body[9] ^= 1
    path.write_bytes(body)


def entry(cache_dir):
    with files(cache_dir, "blocks")[0].open("r+b") as into:
        into.seek(64 + 8 * 3)
        into.write(bytes(8))


def meta(cache_dir):
    files(cache_dir, "meta.json")[0].write_text("{")


def snapshot(cache_dir):
    for path in (cache_dir / "v2" / "snapshots").iterdir():
        path.write_text("{}")


@pytest.mark.parametrize("damage", [flip, zeros, cut, swap, table, entry, meta, snapshot])
def test_a_damaged_cache_gives_right_bytes_and_is_repaired(model, digests, mnt, cache_dir, damage):
    source, options = f"file://{model}", ("--cache-dir", cache_dir, "--block-size", BLOCK)
    with mounted(source, mnt, *options) as mount:
        mount.complete()
    damage(cache_dir)
    with mounted(source, mnt, *options) as mount:
        read_all(mnt, digests)
        assert mount.complete()["repairs"] > 0
    with mounted(source, mnt, *options) as mount:
        read_all(mnt, digests)
        status = mount.status()
        assert (0, 0, "complete") == (status["repairs"], status["bytes_fetched"], status["phase"])
