import os
import subprocess

import pytest

from lazyfs.cache.directory import open_directory
from lazyfs.errors import CacheUnusable


def test_it_is_made_with_its_parents_and_for_its_owner_alone(tmp_path):
    open_directory(tmp_path / "a" / "b")

    assert 0o700 == (tmp_path / "a" / "b").stat().st_mode & 0o777
    assert {"objects", "snapshots"} == {path.name for path in (tmp_path / "a" / "b" / "v2").iterdir()}


def test_one_made_by_a_newer_version_is_refused_and_left_alone(cache_dir):
    (cache_dir / "v3" / "objects").mkdir(parents=True)

    with pytest.raises(CacheUnusable, match=r"newer lazyfs \(v3.*upgrade"):
        open_directory(cache_dir)
    assert ["v3"] == [path.name for path in cache_dir.iterdir()]


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CacheUnusable, match="File exists"):
        open_directory(tmp_path / "file")


@pytest.mark.real
def test_one_that_cannot_be_written_to_is_refused_with_the_cure(tmp_path):
    if os.geteuid():
        pytest.skip("a read-only mount needs root")
    path = tmp_path / "ro"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(path)], check=True)
    try:
        with pytest.raises(CacheUnusable, match=r"Read-only file system.*--cache-dir"):
            open_directory(path / "cache")
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_what_a_killed_process_left_while_evicting_is_cleared(cache_dir):
    open_directory(cache_dir)
    left = cache_dir / "v2" / "leaving-1-abc"
    left.mkdir()
    (left / "data").write_bytes(b"x")

    open_directory(cache_dir)

    assert not left.exists()
