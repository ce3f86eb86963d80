"""Many readers at once, in processes of their own, and what they saw."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.reading import Sheet

ROOT = Path(__file__).parents[2]
LOADS = ("mmap", "tp4", "pread")
EVERY = ("mmap", "tp4", "pread", "sequential", "random", "direct", "scattered")


@dataclass(frozen=True)
class Seen:
    """How a reader ended, and its sheet; None when it was killed (by SIGBUS, say)."""

    kind: str
    code: int
    sheet: Sheet | None

    @property
    def read_bytes(self) -> int:
        """Bytes it read, all of them right."""
        return self.sheet.read_bytes if self.sheet else 0

    @property
    def longest_s(self) -> float:
        """How long its longest read took."""
        return self.sheet.longest_s if self.sheet else 0.0


def some(kinds: Sequence[str], count: int) -> list[str]:
    """Return so many kinds, in turn."""
    return [kinds[number % len(kinds)] for number in range(count)]


class Crowd:
    """Readers of a directory, from their start to `finish`."""

    def __init__(self, directory: Path, kinds: Iterable[str], seed: object, count: int | None = None) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.readers = []
        for number, kind in enumerate(kinds):
            command = [sys.executable, "-m", "tests.chaos.reading", str(directory), kind, f"{seed}.{number}"]
            process = subprocess.Popen(
                [*command, *([str(count)] if count else [])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True,
            )  # fmt: skip
            self.readers.append((kind, process))
        for _, process in self.readers:
            assert process.stdout is not None
            assert "reading\n" == process.stdout.readline()

    @property
    def pids(self) -> list[int]:
        """Those that have not ended."""
        return [process.pid for _, process in self.readers if process.poll() is None]

    def finish(self, within_s: float, *, at_once: bool = True) -> list[Seen]:
        """Have them stop (`at_once`, else when they have read what they were to), and return what they saw.

        A reader that does not stop in time is one that hangs: the test fails.
        """
        deadline_s = time.monotonic() + within_s
        found = []
        if at_once:
            for _, process in self.readers:
                assert process.stdin is not None
                process.stdin.close()
                process.stdin = None
        for kind, process in self.readers:
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{kind} (pid {process.pid}) hangs: {stack(process.pid)}") from None
            # Not communicate(): it would miss what readline() had read ahead.
            assert process.stdout is not None
            out = process.stdout.read()
            sheet = Sheet(**json.loads(out)) if out.strip() else None
            found.append(Seen(kind, process.returncode, sheet))
        return found

    def close(self) -> None:
        """End those that are left."""
        for _, process in self.readers:
            if process.poll() is None:
                process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait(60)


def stack(pid: int) -> str:
    """Return where a process is in the kernel, as far as that can be told."""
    try:
        return Path(f"/proc/{pid}/stack").read_text() or Path(f"/proc/{pid}/wchan").read_text()
    except OSError as error:
        return str(error)


def uninterruptible(pids: Iterable[int]) -> list[str]:
    """Return the threads of processes that are in state D."""
    found = []
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state == "D":
                found.append(f"{pid}/{task.name}: {stack(int(task.name))}")
    return found


def untroubled(seen: Iterable[Seen], errors: frozenset[int] = frozenset()) -> None:
    """Hold all readers to it: no wrong byte, no error but these, no death."""
    wrong = [place for one in seen if one.sheet for place in one.sheet.wrong]
    assert not wrong, f"wrong bytes at {wrong}"
    dead = [(one.kind, one.code, one.sheet is None) for one in seen if one.code or one.sheet is None]
    assert not dead, f"readers ended with {dead}"
    strange = {error for one in seen if one.sheet for error, _ in one.sheet.errors} - errors
    assert not strange, f"errors {strange}"
