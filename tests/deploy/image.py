"""What the Dockerfile says, and the root file system it makes: there is no container engine in the tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.objects import ROOT

DOCKERFILE = ROOT / "Dockerfile"
PREFIX = "/opt/lazyfs"


def instructions() -> list[tuple[str, str]]:
    """The instructions in order, each with what it says; what is continued is one line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage; each begins with FROM."""
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def said(name: str, stage: int = -1) -> list[str]:
    """What the instructions of a name say, in a stage."""
    return [text for instruction, text in stages()[stage] if instruction == name]


def packages(stage: int) -> list[str]:
    """The Debian packages a stage installs."""
    found = [re.search(r"apt-get install (.*?)&&", text) for text in said("RUN", stage)]
    return [word for match in found if match for word in match[1].split() if not word.startswith("--")]


def build(root: Path) -> None:
    """Make what the image has in /opt/lazyfs, in `root`, by copying and running what the Dockerfile says."""
    source = root / "src"
    for text in said("COPY", 0):
        *names, target = text.split()
        for name in names:
            _copy(ROOT / name, source / (name if target == "./" else target))
    (command,) = [text for text in said("RUN", 0) if "pip" in text]
    script = command.replace(PREFIX, str(root / "opt")).replace("--no-cache-dir", "--quiet")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-euc", script], cwd=source, check=True, env={**os.environ, "PATH": path}, timeout=300
    )


def _copy(what: Path, where: Path) -> None:
    where.parent.mkdir(parents=True, exist_ok=True)
    if what.is_dir():
        shutil.copytree(what, where, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copy(what, where)


def bytes_of(directory: Path) -> int:
    """What a directory takes on a disk, every file once."""
    return int(
        subprocess.run(["du", "-s", "-B1", directory], capture_output=True, check=True).stdout.split()[0]
    )
