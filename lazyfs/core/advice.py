"""What the measurements of a node mean: what limits a start, how long it takes, which options to set. Pure.

The picture behind it: in a cold start every byte comes over the link and goes out through FUSE. It is written
to disk behind the readers' backs, so a slow disk holds nobody up, but loses blocks for the next start. In a
warm start every byte comes from the disk. Both take CPU time, and all of it comes from the same processors.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from lazyfs.core.memorybudget import room_bytes

KNEE_SHARE = 0.9
"""The fewest connections that bring this share of the best rate are enough."""
SLOWER = 0.8
"""A warm start at less than this share of a cold one's rate is worth another disk; nearer is chance."""
GROWING = 1.2
"""A last step this much better than the one before says that the curve has not bent yet."""


FRESH_SHARE = 0.75
"""Memory that was not used yet counts as slow below this share of what memory used before allows."""


class Part(StrEnum):
    """What a start can be limited by."""

    LINK = "link"
    DISK = "disk"
    FUSE = "FUSE"
    MEMORY = "memory"
    CPU = "CPU"


@dataclass(frozen=True, slots=True)
class Step:
    """What so many connections bring together, in bytes a second; `failed` of them met an error."""

    connections: int
    bytes_per_s: float
    failed: int = 0


@dataclass(frozen=True, slots=True)
class DiskRates:
    """What the cache directory writes and reads, in bytes a second."""

    write_bytes_per_s: float
    read_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class FuseRates:
    """What FUSE can hand out, in bytes a second: into fresh memory, and into memory that was used before."""

    fresh_bytes_per_s: float
    again_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a node can do. `curve` is by connections, from 1 on; only its last step may have failures.

    `disk` and `fuse` are None where they could not be measured. `cold_cpu_s_per_byte` and
    `warm_cpu_s_per_byte` are CPU time, of all parts together. `capacity_bytes` is what the cache may hold;
    `memory_auto_max_bytes` the most that `--memory auto` takes here; `auto_connections` the most that
    `--connections auto` uses.
    """

    model_bytes: int
    curve: tuple[Step, ...]
    disk: DiskRates | None
    fuse: FuseRates | None
    cpus: float
    cold_cpu_s_per_byte: float
    warm_cpu_s_per_byte: float
    capacity_bytes: int
    memory_limit_bytes: int
    memory_auto_max_bytes: int
    block_bytes: int
    auto_connections: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long the model takes, in seconds, at which rate, and what keeps it from being faster."""

    limited_by: Part
    bytes_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Setting:
    """An option worth setting, and why."""

    option: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to expect with the defaults (`warm` is None without a disk to keep the model), what to set."""

    cold: Forecast
    warm: Forecast | None
    settings: tuple[Setting, ...]


def judge(found: Measured) -> Verdict:
    """Return what the measurements mean for the model they were made with."""
    link = _best(_usable(found)).bytes_per_s
    cold = _forecast(found, {Part.LINK: link}, found.cold_cpu_s_per_byte)
    warm = None
    if found.disk is not None:
        warm = _forecast(found, {Part.DISK: found.disk.read_bytes_per_s}, found.warm_cpu_s_per_byte)
        kept_bytes = min(found.model_bytes, found.capacity_bytes)
        again_bytes = found.model_bytes - kept_bytes
        seconds = kept_bytes / warm.bytes_per_s + again_bytes / cold.bytes_per_s
        warm = Forecast(warm.limited_by, warm.bytes_per_s, seconds)
    wishes = (_connections(found, cold), _memory(found), _cache_dir(found, cold, warm))
    return Verdict(cold, warm, tuple(wish for wish in wishes if wish is not None))


def _forecast(found: Measured, parts: dict[Part, float], cpu_s_per_byte: float) -> Forecast:
    """Return the forecast for a start whose bytes pass through `parts`, FUSE and the CPU."""
    rates = parts | {Part.CPU: found.cpus / cpu_s_per_byte if cpu_s_per_byte else math.inf}
    if found.fuse is not None:
        rates[Part.FUSE] = found.fuse.again_bytes_per_s
        if found.fuse.fresh_bytes_per_s < FRESH_SHARE * found.fuse.again_bytes_per_s:
            rates[Part.MEMORY] = found.fuse.fresh_bytes_per_s
    part = min(rates, key=lambda part: rates[part])
    return Forecast(part, rates[part], found.model_bytes / rates[part])


def _good(found: Measured) -> list[Step]:
    """Return the steps without failures: all, or all but the last."""
    good = [step for step in found.curve if not step.failed]
    assert good, "no step without failures"
    return good


def _usable(found: Measured) -> list[Step]:
    """Return the good steps that the default number of connections reaches."""
    return [step for step in _good(found) if step.connections <= found.auto_connections]


def _best(steps: list[Step]) -> Step:
    return max(steps, key=lambda step: step.bytes_per_s)


def knee(found: Measured) -> Step:
    """Return the step beyond which more connections are not worth having."""
    good = _good(found)
    enough = KNEE_SHARE * _best(good).bytes_per_s
    return next(step for step in good if step.bytes_per_s >= enough)


def _connections(found: Measured, cold: Forecast) -> Setting | None:
    """More connections than the default has where just they are missing; fewer where the source fails."""
    good, bend = _good(found), knee(found)
    broken = found.curve[-1]
    if broken.failed and broken.connections <= found.auto_connections:
        return Setting(
            f"--connections {good[-1].connections}",
            f"with {broken.connections} connections the source failed {broken.failed} of them",
        )
    if bend.connections <= found.auto_connections or cold.limited_by is not Part.LINK:
        return None
    why = (
        f"{bend.connections} connections bring {_mb_s(bend.bytes_per_s)}, "
        f"the default's {found.auto_connections} bring {_mb_s(cold.bytes_per_s)}"
    )
    if len(good) > 1 and good[-1].bytes_per_s >= GROWING * good[-2].bytes_per_s:
        why += "; it was still growing, so even more may be better"
    return Setting(f"--connections {bend.connections}", why)


def _memory(found: Measured) -> Setting | None:
    """More memory where the automatic budget cannot hold a block for every connection."""
    connections = min(knee(found).connections, found.auto_connections)
    needed_bytes = connections * found.block_bytes
    if needed_bytes <= found.memory_auto_max_bytes:
        return None
    why = (
        f"`auto` takes {_mib(found.memory_auto_max_bytes)} here, which is less than a block for each of "
        f"{connections} connections"
    )
    lacking_bytes = needed_bytes - room_bytes(found.memory_limit_bytes, found.block_bytes)
    if lacking_bytes <= 0:
        return Setting(f"--memory {_mib(needed_bytes)}", why)
    return Setting(f"a memory limit of {_mib(found.memory_limit_bytes + lacking_bytes)} or more", why)


def _cache_dir(found: Measured, cold: Forecast, warm: Forecast | None) -> Setting | None:
    """Another cache directory where this one is too small, or no faster than the link."""
    reasons = []
    if found.capacity_bytes < found.model_bytes:
        reasons.append(
            f"there is room for {_gb(found.capacity_bytes)} of {_gb(found.model_bytes)}; "
            "the rest is downloaded at every start"
        )
    if found.disk is not None and warm is not None:
        if warm.bytes_per_s < SLOWER * cold.bytes_per_s and warm.limited_by is Part.DISK:
            reasons.append(
                f"reading back ({_mb_s(warm.bytes_per_s)}) is slower than downloading "
                f"({_mb_s(cold.bytes_per_s)}); without a faster disk, --cache-size 0 starts sooner"
            )
        written = found.model_bytes * min(1.0, found.disk.write_bytes_per_s / cold.bytes_per_s)
        # What waits for the disk at the end still gets there; the rest was declined.
        if found.model_bytes - written > found.memory_auto_max_bytes:
            reasons.append(
                f"it writes {_mb_s(found.disk.write_bytes_per_s)} while {_mb_s(cold.bytes_per_s)} come in; "
                "what it cannot keep up with is downloaded again by the next start"
            )
    return Setting("--cache-dir on another disk", "; ".join(reasons)) if reasons else None


def _mb_s(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e6:,.0f} MB/s"


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes // (1 << 20))}MiB"
