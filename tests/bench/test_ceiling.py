import tempfile
from pathlib import Path

from lazyfs.bench import ceiling
from lazyfs.bench.ceiling import Ceiling, NoCeiling
from lazyfs.bench.synthetic import SOURCE
from lazyfs.fuse.mountinfo import mounts

MEMORY = 8 * (64 << 20)
"""So that files have 64 MiB."""


def left():
    return sorted(Path(tempfile.gettempdir()).glob("lazyfs-bench-*")), [
        m for m in mounts() if m.source == SOURCE
    ]


def test_a_mount_that_never_waits_is_read_and_taken_away():
    before = left()

    found = ceiling.measure(MEMORY, 1 << 20, 5.0)

    assert isinstance(found, Ceiling)
    assert min(found.fresh_bytes_per_s, found.mapped_bytes_per_s, found.read_bytes_per_s) > 0
    assert () == found.untuned
    assert before == left()


def test_where_nothing_can_be_mounted_it_says_why(monkeypatch, tmp_path):
    before = left()
    monkeypatch.setattr(ceiling, "SERVER", ("/bin/echo", "there is no /dev/fuse; load the module:"))

    found = ceiling.measure(MEMORY, 1 << 20, 5.0)

    assert isinstance(found, NoCeiling)
    assert "there is no /dev/fuse; load the module" in found.why
    assert before == left()
