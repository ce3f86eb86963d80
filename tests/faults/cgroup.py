"""A memory limit by the kernel: a cgroup of its own, v1 or v2."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A cgroup with a memory limit. Processes join it by `join`, in the child, before they do anything."""

    def __init__(self, path: Path, *, unified: bool) -> None:
        self.path = path
        self._unified = unified

    def _file(self, v2: str, v1: str) -> Path:
        return self.path / (v2 if self._unified else v1)

    def limit(self, size_bytes: int) -> None:
        """Set the limit, and allow no swap beyond it."""
        self._file("memory.max", "memory.limit_in_bytes").write_text(str(size_bytes))
        if self._unified and (self.path / "memory.swap.max").exists():
            (self.path / "memory.swap.max").write_text("0")

    def join(self) -> None:
        """Move the calling process in."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def peak_bytes(self) -> int:
        """The most that was ever charged."""
        return int(self._file("memory.peak", "memory.max_usage_in_bytes").read_text())

    @property
    def used_bytes(self) -> int:
        """What is charged now."""
        return int(self._file("memory.current", "memory.usage_in_bytes").read_text())

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for memory."""
        text = self._file("memory.events", "memory.oom_control").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def stat(self, v2: str, v1: str) -> int:
        """Return a figure of memory.stat."""
        name = v2 if self._unified else v1
        lines = (self.path / "memory.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == name)

    def close(self) -> None:
        """End whoever is left in it, and take it away."""
        for pid in (self.path / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        deadline_s = time.monotonic() + 60
        while True:
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)
            else:
                return


@contextmanager
def memory_group(size_bytes: int) -> Iterator[MemoryGroup]:
    """Make a group for the length of a block; skips the test where nobody may."""
    group = _made()
    if group is None:
        pytest.skip("no cgroup with a memory limit can be made here")
    try:
        group.limit(size_bytes)
        yield group
    finally:
        group.close()


def _made() -> MemoryGroup | None:
    name = f"lazyfs-test-{os.getpid()}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _try(ROOT / "memory" / place.lstrip("/") / name, unified=False)
    # In v2 a group that has processes can have no children with limits, unless it is the root.
    try:
        if "memory" not in (ROOT / "cgroup.subtree_control").read_text().split():
            return None
    except OSError:
        return None
    return _try(ROOT / name, unified=True)


def _try(path: Path, *, unified: bool) -> MemoryGroup | None:
    try:
        path.mkdir()
    except OSError:
        return None
    return MemoryGroup(path, unified=unified)
