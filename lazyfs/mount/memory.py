"""The memory this process may use, and how much of that is left: RAM, and every cgroup it is in."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
UNIFIED = "unified"
"""Where systemd puts cgroups v2 beside v1."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of one cgroup: the files that hold it, and those that say what is used."""

    directory: Path
    limits: tuple[str, ...]
    usage: str
    reclaimable: tuple[str, ...]
    """Fields of memory.stat: what the kernel takes back before it kills anybody."""

    def bytes(self) -> int | None:
        """Return the limit; None when there is none."""
        found = [value for name in self.limits if (value := _number(self.directory / name)) is not None]
        hidden = _fields(self.directory).get("hierarchical_memory_limit")
        return min([*found, *([hidden] if hidden is not None else [])], default=None)

    def headroom_bytes(self) -> int | None:
        """Return what is left before the limit; None when there is none."""
        limit, used = self.bytes(), _number(self.directory / self.usage)
        if limit is None or used is None:
            return None
        fields = _fields(self.directory)
        return limit - used + sum(fields.get(name, 0) for name in self.reclaimable)


def limits(cgroups: str | None = None, root: Path = _ROOT) -> list[Limit]:
    """Return the cgroups with a memory controller that this process is in, parents too.

    A pod's limit is one level up. In a container the path of a cgroup may only exist outside; then what the
    container sees as the root is its own. `cgroups` is the content of /proc/self/cgroup. `memory.high` counts
    as a limit: beyond it the kernel slows the process down until it hardly moves.
    """
    if cgroups is None:
        cgroups = Path("/proc/self/cgroup").read_text()
    return [limit for limit in _all(cgroups, root) if limit.bytes() is not None]


def _all(cgroups: str, root: Path) -> Iterator[Limit]:
    for line in cgroups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        place = Path(path.lstrip("/"))
        for above in (place, *place.parents):
            if not controllers:
                for base in (root, root / UNIFIED):
                    files = ("memory.max", "memory.high")
                    cache = ("active_file", "inactive_file", "slab_reclaimable")
                    yield Limit(base / above, files, "memory.current", cache)
            elif "memory" in controllers.split(","):
                yield Limit(
                    root / "memory" / above,
                    ("memory.limit_in_bytes",),
                    "memory.usage_in_bytes",
                    ("total_active_file", "total_inactive_file"),
                )


def limit_bytes(cgroups: str | None = None, root: Path = _ROOT) -> int:
    """Return the memory this process may use, in bytes."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(limit.bytes() or physical for limit in limits(cgroups, root))])


def headroom_bytes(found: list[Limit], meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return how much more memory may be used before the first of the limits; None when nobody knows."""
    left = [value for limit in found if (value := limit.headroom_bytes()) is not None]
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        left.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, ValueError, KeyError):
        pass
    return min(left, default=None)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _fields(directory: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in (directory / "memory.stat").read_text().splitlines()]
        return {name: int(value) for name, value in lines}
    except (OSError, ValueError):
        return {}
