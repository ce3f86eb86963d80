"""What processes cost: the memory and the CPU time of some processes and everything they started."""

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.05
SCAN_S = 0.5
"""Between looks for new children: going through all processes takes milliseconds of CPU."""
STOP_S = 20.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True)
class Stat:
    """A process: its parent, CPU seconds with those of children it has waited for, and resident megabytes."""

    parent: int
    cpu_s: float
    rss_mb: float


def stat(pid: int) -> Stat | None:
    """Return how a process is, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name is in brackets, and may contain anything.
    words = text.rpartition(")")[2].split()
    return Stat(int(words[1]), sum(map(int, words[11:15])) * TICK_S, int(words[21]) * PAGE_MB)


def family(roots: set[int]) -> set[int]:
    """Return some processes and all that descend from them."""
    everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {pid: found for pid in everyone if (found := stat(pid))}
    known = set(roots)
    grown = True
    while grown:
        children = {pid for pid, one in parents.items() if one.parent in known} - known
        known |= children
        grown = bool(children)
    return known


class Watch:
    """Samples the memory of a family of processes until stopped; knows their CPU seconds since then."""

    def __init__(self, roots: set[int]) -> None:
        self._roots = set(roots)
        self._before_s = _cpu_s(self._roots)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_mb = self.last_mb = 0.0
        self._thread.start()

    def add(self, pid: int) -> None:
        """Count a process that has just been started, too."""
        self._roots.add(pid)

    def _run(self) -> None:
        pids, scan_s = set(self._roots), 0.0
        while not self._ended.wait(SAMPLE_S):
            if time.monotonic() > scan_s:
                pids, scan_s = family(self._roots), time.monotonic() + SCAN_S
            self.last_mb = sum(one.rss_mb for pid in pids | self._roots if (one := stat(pid)))
            self.peak_mb = max(self.peak_mb, self.last_mb)

    def cpu_s(self) -> float:
        """Return the CPU seconds since the beginning, of those that still run and those they waited for."""
        return _cpu_s(self._roots) - self._before_s

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join()


def _cpu_s(roots: set[int]) -> float:
    return sum(one.cpu_s for pid in family(roots) if (one := stat(pid)))


def reap(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process; return the CPU seconds of it and what it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, and make it end when it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
