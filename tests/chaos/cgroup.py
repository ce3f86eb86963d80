"""A memory cgroup for one mount, of version 1 or 2, where one can be made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class Group:
    """A group with a limit; `program` begins a command inside it."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        path.mkdir()
        limit = path / ("memory.max" if path.parent == V2 else "memory.limit_in_bytes")
        limit.write_text(str(limit_bytes))

    @property
    def program(self) -> tuple[str, str]:
        """What makes `lazyfs` of a Python, in the group."""
        enter = f"open({str(self._path / 'cgroup.procs')!r}, 'w').write('0')"
        return "-c", f"{enter}; from lazyfs.__main__ import main; main()"

    def killed(self) -> int:
        """Return how many processes of the group were killed for memory."""
        name = "memory.events" if self._path.parent == V2 else "memory.oom_control"
        lines = (self._path / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def most_bytes(self) -> int:
        """Return the most memory it has had."""
        name = "memory.peak" if self._path.parent == V2 else "memory.max_usage_in_bytes"
        return int((self._path / name).read_text())

    def close(self) -> None:
        """Remove it; nothing may run in it any more."""
        self._path.rmdir()


@contextmanager
def limited(limit_bytes: int) -> Iterator[Group]:
    """Make a group for the length of a block; skips the test where that is not possible."""
    root = V1 if V1.is_dir() else V2
    controllers = V2 / "cgroup.subtree_control"
    if root == V2 and not (controllers.exists() and "memory" in controllers.read_text()):
        pytest.skip("there is no memory cgroup here")
    try:
        group = Group(root / f"lazyfs-{os.getpid()}", limit_bytes)
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    try:
        yield group
    finally:
        group.close()
