"""What a mount is put together with when it cannot have all it wants."""

import time

import pytest

from lazyfs.config import MountOptions
from lazyfs.errors import CacheUnusable, MemoryTooSmall
from lazyfs.mount import assembly
from lazyfs.mount.report import Origin
from lazyfs.mount.snapshot import connect, take

MIB = 1 << 20


@pytest.fixture
def put_together(tmp_path):
    """Assemble a mount of one small file, with a cache directory that is a file, unless told otherwise."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    sources = []

    def make(*, first, cache_dir=tmp_path / "file", **options):
        options = MountOptions(cache_dir=cache_dir, **options)
        source = connect(f"file://{model}", options)
        sources.append(source)
        manifest = take(source, f"file://{model}", options)
        origin = Origin(tmp_path / "mnt", time.time(), supervisor=1, restarts=0, owner=(0, 0), first=first)
        return assembly.assemble(source.locate, manifest, options, origin)

    yield make
    for source in sources:
        source.close()


def test_a_first_mount_is_refused_without_its_cache(put_together):
    with pytest.raises(CacheUnusable, match="File exists"):
        put_together(first=True)


@pytest.mark.logs("cache_unusable")
def test_a_mount_that_was_there_goes_on_without_its_cache_and_says_why(put_together):
    parts = put_together(first=False)
    status = parts.reporter.status()

    assert parts.store is None
    assert parts.writer is None
    assert "bypass" == status.cache_state
    assert "File exists" in status.cache_why


def test_without_a_cache_that_nobody_wanted_its_state_is_off(put_together):
    status = put_together(first=True, cache_size=0).reporter.status()

    assert ("off", "") == (status.cache_state, status.cache_why)


def test_a_first_mount_is_refused_without_memory_and_a_later_one_takes_the_least(
    put_together, cache_dir, monkeypatch
):
    monkeypatch.setattr(assembly, "limit_bytes", lambda: 64 * MIB)

    with pytest.raises(MemoryTooSmall):
        put_together(first=True, cache_dir=cache_dir)
    assert 32 * MIB == put_together(first=False, cache_dir=cache_dir).reporter.status().memory_budget_bytes
