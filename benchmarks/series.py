"""A series: several systems in turns, in several phases, for one reader behind one link, and what came out.

Interleaved, so that a slow minute of the machine is everybody's; who begins changes from turn to turn.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import floors
from benchmarks.loading import RunFailed, truth
from benchmarks.measure import PHASES, Run, Stage, drop_caches
from benchmarks.models import Shape, make
from benchmarks.report import summary
from benchmarks.server import BUCKET, PROFILES, ShapedServer
from benchmarks.systems import SYSTEMS, Site
from lazyfs.errors import LazyfsError

RESULTS = Path(__file__).parent / "results"
SETTLE_S = 6.0
"""How long after a load the memory is looked at, in the first turn."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What to measure."""

    profile: str = "s3"
    reader: str = "mmap"
    systems: tuple[str, ...] = tuple(SYSTEMS)
    phases: tuple[str, ...] = ("cold",)
    runs: int = 5
    shape: Shape = field(default_factory=Shape)
    limit_s: float = 300.0
    """A run that takes longer has failed."""


@dataclass(slots=True)
class Outcome:
    """What was measured so far."""

    runs: list[Run] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    link_s: list[float] = field(default_factory=list)
    disk_mb_per_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """A model to serve, in memory, and a copy of it on the disk that is measured."""

    www: Path
    work: Path
    size_bytes: int

    @property
    def source(self) -> Path:
        """The files that are served: what is measured is not the server's disk."""
        return self.www / BUCKET / "model"

    @property
    def disk(self) -> Path:
        """The copy."""
        return self.work / "disk"


@contextmanager
def place(shape: Shape, work: Path | None) -> Iterator[Place]:
    """Make a model to serve, and a directory to work in: `work`, or a new one."""
    with (
        tempfile.TemporaryDirectory(prefix="lazyfs-bench-", dir=work) as temporary,
        tempfile.TemporaryDirectory(prefix="lazyfs-www-", dir="/dev/shm") as www,
    ):
        size_bytes = make(Path(www) / BUCKET / "model", shape)
        yield Place(Path(www), Path(temporary), size_bytes)


def installed(names: tuple[str, ...], reader: str) -> tuple[list[str], dict[str, str]]:
    """Return the systems that can be measured with a reader, and why the others cannot."""
    can, cannot = [], {}
    for name in names:
        system = SYSTEMS[name]
        if missing := system.missing():
            cannot[name] = f"{', '.join(missing)} not installed: {system.cure}"
        elif system.readers is not None and reader not in system.readers:
            cannot[name] = f"not made for the reader {reader}"
        else:
            can.append(name)
    return can, cannot


def measure(setting: Setting, work: Path | None = None) -> dict[str, Any]:
    """Make the model, play all turns, and return the document of it."""
    names, left_out = installed(setting.systems, setting.reader)
    for name, reason in left_out.items():
        sys.stderr.write(f"{name:9} left out: {reason}\n")
    if not names:
        sys.exit("none of these systems can be measured here")
    outcome = Outcome()
    with place(setting.shape, work) as here:
        expected = truth(here.source, setting.reader)
        if {"disk", "lazyfs-hub"} & set(names) or "warm" in setting.phases:
            shutil.copytree(here.source, here.disk)
        with ShapedServer(here.www, PROFILES[setting.profile], here.work / "nginx") as server:
            for turn in range(setting.runs):
                _floors(outcome, here, server, setting)
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    site = Site(server.endpoint_url, here.work / "run", here.disk)
                    _visit(outcome, Stage(name, site, server, setting.reader, setting.limit_s), setting, turn)
            link = server.link
        wrong = [run for run in outcome.runs if run.checksum != expected]
        outcome.failures += [f"{run.system}, {run.phase}: read other bytes than there are" for run in wrong]
    right = Outcome(
        [run for run in outcome.runs if run not in wrong],
        outcome.failures,
        outcome.link_s,
        outcome.disk_mb_per_s,
    )
    return _document(setting, right, here.size_bytes) | {"link": link, "left_out": left_out}


def _floors(outcome: Outcome, here: Place, server: ShapedServer, setting: Setting) -> None:
    """Measure what the link and the disk give at best, in each turn."""
    if (seconds := floors.link_s(server.endpoint_url, here.source, here.work)) is not None:
        outcome.link_s.append(seconds)
        sys.stderr.write(f"link floor {seconds:6.2f} s\n")
    if "warm" in setting.phases:
        drop_caches()
        if (rate := floors.disk_mb_per_s(here.disk)) is not None:
            outcome.disk_mb_per_s.append(rate)
            sys.stderr.write(f"disk floor {here.size_bytes / rate / 1e6:6.2f} s\n")


def _visit(outcome: Outcome, stage: Stage, setting: Setting, turn: int) -> None:
    """Play the phases of one system. A cold one comes first, also where only later ones are asked for."""
    try:
        with stage:
            for phase in PHASES:
                if phase != "cold" and (phase not in setting.phases or phase not in stage.phases):
                    continue
                run = stage.play(phase, turn, SETTLE_S if turn == 0 and phase == "cold" else 0.0)
                sys.stderr.write(f"{turn + 1}/{setting.runs} {run.system:9} {phase:4} {run.total_s:6.2f} s\n")
                if phase in setting.phases:
                    outcome.runs.append(run)
    except (RunFailed, LazyfsError, OSError) as error:
        outcome.failures.append(str(error))
        sys.stderr.write(f"failed: {error}\n")


def _document(setting: Setting, outcome: Outcome, size_bytes: int) -> dict[str, Any]:
    """Return everything as what is saved."""
    return {
        "profile": setting.profile,
        "reader": setting.reader,
        "model": asdict(setting.shape) | {"size_bytes": size_bytes},
        "machine": machine(),
        "turns": setting.runs,
        "floors": {
            "link_s": [round(one, 4) for one in outcome.link_s],
            "disk_mb_per_s": [round(one, 1) for one in outcome.disk_mb_per_s],
        },
        "failures": outcome.failures,
        "phases": summary(
            [asdict(run) for run in outcome.runs], size_bytes, outcome.link_s, outcome.disk_mb_per_s
        ),
        "runs": [rounded(run) for run in outcome.runs],
    }


def rounded(run: Run) -> dict[str, Any]:
    """Return a run with no more digits than mean something."""
    return {
        name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(run).items()
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    place_ = Path(__file__).parent
    words = ["git", "-C", str(place_), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False)
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "commit": commit.stdout.strip(),
    }


def save(document: dict[str, Any], name: str) -> Path:
    """Write a document to `results/NAME.json`, its runs one per line."""
    RESULTS.mkdir(exist_ok=True)
    runs = document.get("runs", [])
    text = json.dumps(document | {"runs": []}, indent=1)
    lines = ",\n".join("  " + json.dumps(run) for run in runs)
    path = RESULTS / f"{name}.json"
    path.write_text(text.replace('"runs": []', f'"runs": [\n{lines}\n ]') + "\n" if runs else text + "\n")
    return path


def saved(name: str) -> dict[str, Any]:
    """Return a document that was saved, by its name or its path."""
    path = Path(name) if name.endswith(".json") else RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found
