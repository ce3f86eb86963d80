"""One run: a system, a reader, the time from the command to the last tensor, and what it cost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reader import READERS
from benchmarks.systems import SYSTEMS, Plan, environment
from lazyfs.fuse.mountinfo import mounted_at

SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the start of the command; CPU seconds and megabytes of the system, without the reader."""

    system: str
    ready_s: float
    first_s: float
    total_s: float
    download_s: float | None
    cpu_s: float
    rss_mb: float
    rss_after_mb: float
    checksum: str


class Memory(threading.Thread):
    """Samples a process's resident memory."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak_mb = self.last_mb = 0.0
        self.start()

    def run(self) -> None:
        """Sample until stopped, or the process has ended."""
        while not self._ended.wait(SAMPLE_S):
            try:
                pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                return
            self.last_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
            self.peak_mb = max(self.peak_mb, self.last_mb)

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()


def drop_caches() -> None:
    """Write out what is dirty and forget what is cached: the commonest lie is the run before."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


class Readers:
    """The processes of a reader (`benchmarks.reader`), waiting for the directory once this is made."""

    def __init__(self, name: str, directory: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.reader", str(directory), name]
        self._processes = [
            subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True)
            for rank in range(READERS[name].ranks)
        ]
        for process in self._processes:
            self._line(process)

    @staticmethod
    def _line(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    def times(self) -> dict[str, float]:
        """Wait for their end: first answers, last bytes, and the checksum of it all."""
        said = [json.loads(self._line(process)) for process in self._processes]
        for process in self._processes:
            process.wait()
        checksum = 0
        for one in said:
            checksum ^= one["checksum"]
        return {
            "ready": min(one["ready"] for one in said),
            "first": min(one["first"] for one in said),
            "last": max(one["last"] for one in said),
            "checksum": checksum,
        }


def measure(system: str, endpoint: str, work: Path, reader: str = "mmap", settle_s: float = 0.0) -> Run:
    """Run one system cold and return what it took. `settle_s`: look at memory so long after the load."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    plan = SYSTEMS[system](endpoint, work)
    drop_caches()
    readers = Readers(reader, plan.directory)
    with (work / "log").open("w") as log:
        started_s = time.monotonic()
        process = subprocess.Popen(plan.command, env=environment(plan), stdout=log, stderr=log)
    memory = Memory(process.pid)
    downloaded_s, cpu_s = None, 0.0
    if plan.download is not None:
        cpu_s = _reap(process)
        downloaded_s = time.monotonic() - started_s
        plan.download.rename(plan.directory)
    times = readers.times()
    time.sleep(settle_s)
    memory.stop()
    if plan.download is None:
        cpu_s = _stop(process, plan)
    return Run(
        system=system,
        ready_s=times["ready"] - started_s,
        first_s=times["first"] - started_s,
        total_s=times["last"] - started_s,
        download_s=downloaded_s,
        cpu_s=cpu_s,
        rss_mb=memory.peak_mb,
        rss_after_mb=memory.last_mb,
        checksum=f"{times['checksum']:016x}",
    )


def _stop(process: subprocess.Popen[bytes], plan: Plan) -> float:
    """End a mount; return its CPU seconds."""
    process.send_signal(signal.SIGTERM)
    cpu_s = _reap(process)
    while mounted_at(plan.directory) is not None:
        subprocess.run(["umount", "-l", str(plan.directory)], check=True)
    return cpu_s


def _reap(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; return the CPU seconds of it and what it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime
