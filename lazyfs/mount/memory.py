"""How much memory there is for blocks: the tightest of RAM and every cgroup this process is in."""

import os
from collections.abc import Iterator
from pathlib import Path

from lazyfs.config import MEMORY_BYTES_MIN

SHARE = 4
"""`auto` takes at most one part in this many of the limit."""
LANDED_BYTES = 128 << 20
_ROOT = Path("/sys/fs/cgroup")


def auto_budget_bytes(limit_bytes: int, connections: int, block_bytes: int) -> int:
    """Return the budget for blocks: twice what is in flight, and some more; at most a quarter of the limit.

    More does not load faster. It touches more fresh memory, which on a virtual machine may have to come from
    the host first: 1 GiB instead of 384 MiB cost a fifth of the time of a cold load (docs/adr/0006).
    """
    wanted = 2 * connections * block_bytes + LANDED_BYTES
    return max(MEMORY_BYTES_MIN, min(wanted, limit_bytes // SHARE))


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
