"""How much memory there is for blocks: the tightest of RAM and every cgroup this process is in."""

import os
from collections.abc import Iterator
from pathlib import Path

SHARE = 4
"""`auto` takes one part in this many of the limit."""
AUTO_MIN_BYTES = 256 << 20
AUTO_MAX_BYTES = 1 << 30
_ROOT = Path("/sys/fs/cgroup")


def auto_budget_bytes(limit_bytes: int) -> int:
    """Return the budget for blocks under a memory limit: a quarter, from 256 MiB to 1 GiB."""
    return min(AUTO_MAX_BYTES, max(AUTO_MIN_BYTES, limit_bytes // SHARE))


def limit_bytes(cgroups: str | None = None, root: Path = _ROOT) -> int:
    """Return the memory this process may use, in bytes.

    `cgroups` is the content of /proc/self/cgroup. Limits of parents count: a pod's limit is one level up.
    """
    if cgroups is None:
        cgroups = Path("/proc/self/cgroup").read_text()
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(cgroups, root)])


def _limits(cgroups: str, root: Path) -> Iterator[int]:
    for line in cgroups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _upwards(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(root / "memory", path, "memory.limit_in_bytes")


def _upwards(base: Path, path: str, name: str) -> Iterator[int]:
    """Yield the limits of a cgroup and of those above it; in a container its path may only exist outside."""
    place = Path(path.lstrip("/"))
    for directory in (place, *place.parents):
        try:
            text = (base / directory / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            yield int(text)
