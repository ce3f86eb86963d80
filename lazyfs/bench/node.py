"""The node: processors and memory this process may use, and what a mount would make of them."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lazyfs.core.memorybudget import SHARE, auto_bytes
from lazyfs.mount.memory import limit_bytes

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Node:
    """What the node gives this process; `memory_budget_bytes` is what `--memory auto` would take of it."""

    cpus: float
    memory_limit_bytes: int
    memory_budget_bytes: int
    memory_auto_max_bytes: int
    kernel: str


def look(connections: int, block_bytes: int) -> Node:
    """Return what this node is, for a mount with so many connections and blocks of this size."""
    limit = limit_bytes()
    budget = auto_bytes(limit, connections, block_bytes)
    return Node(cpus(), limit, budget, max(budget, limit // SHARE), platform.release())


def cpus(cgroups: str | None = None, root: Path = _ROOT) -> float:
    """Return how many processors this process may use: those it may run on, or a cgroup's quota of time.

    `cgroups` is the content of /proc/self/cgroup.
    """
    if cgroups is None:
        cgroups = Path("/proc/self/cgroup").read_text()
    return min([float(len(os.sched_getaffinity(0))), *_quotas(cgroups, root)])


def _quotas(cgroups: str, root: Path) -> Iterator[float]:
    """Yield the quotas (cgroups v2) of this process's cgroup and of those above it."""
    for line in cgroups.splitlines():
        if not line.startswith("0::"):
            continue
        place = Path(line.removeprefix("0::").lstrip("/"))
        for directory in (place, *place.parents):
            try:
                quota, period = (root / directory / "cpu.max").read_text().split()
            except (OSError, ValueError):
                continue
            if quota.isdigit():
                yield int(quota) / int(period)
