import os
import tempfile

import pytest

from lazyfs.bench import ceiling
from lazyfs.bench.ceiling import Ceiling, NoCeiling
from lazyfs.fuse.mountinfo import mounts

MEMORY = 8 * (64 << 20)
"""So that files have 64 MiB."""


@pytest.fixture(autouse=True)
def _own_tmp(tmp_path, monkeypatch):
    """Where everything temporary goes: another bench may run on this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def left(path):
    return os.listdir(path), [m for m in mounts() if m.mountpoint.startswith(str(path))]


@pytest.mark.real
def test_a_mount_that_never_waits_is_read_and_taken_away(tmp_path):
    found = ceiling.measure(MEMORY, 1 << 20, 5.0)

    assert isinstance(found, Ceiling)
    assert min(found.fresh_bytes_per_s, found.mapped_bytes_per_s, found.read_bytes_per_s) > 0
    assert () == found.untuned
    assert ([], []) == left(tmp_path)


@pytest.mark.real
def test_where_nothing_can_be_mounted_it_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(ceiling, "SERVER", ("/bin/echo", "there is no /dev/fuse; load the module:"))

    found = ceiling.measure(MEMORY, 1 << 20, 5.0)

    assert isinstance(found, NoCeiling)
    assert "there is no /dev/fuse; load the module" in found.why
    assert ([], []) == left(tmp_path)
