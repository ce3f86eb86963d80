"""One system, set up in its directory, and the phases it is measured in.

cold: an empty cache, the page cache dropped, from the start of the command; hot: a second reader of the same
mount; warm: the cache kept, the page cache dropped, from a new start of the command.
"""

import os
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.loading import Readers, RunFailed, checksum_text
from benchmarks.processes import Watch, end, reap
from benchmarks.server import ShapedServer
from benchmarks.systems import SYSTEMS, Kind, Site, environment
from lazyfs.fuse.mountinfo import mounted_at

PHASES = ("cold", "hot", "warm")
QUIET_S = 60.0
"""How long to wait for a system that goes on fetching after its reader has ended."""


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the start of the command; CPU and memory of the system (a loader is its reader)."""

    system: str
    phase: str
    turn: int
    ready_s: float
    first_s: float
    total_s: float
    download_s: float | None
    cpu_s: float
    rss_mb: float
    rss_after_mb: float
    needed_bytes: int
    fetched_bytes: int
    piece_p50_ms: float
    piece_p99_ms: float
    checksum: str


def drop_caches() -> None:
    """Write out what is dirty and forget what is cached: the commonest lie is the run before."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def drops() -> int:
    """Return how often the page cache of this machine was dropped, by anybody."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("drop_pagecache "))


class Stage:
    """One system in an empty directory, for a `with` block; phases are played in the order of `PHASES`."""

    def __init__(self, name: str, site: Site, server: ShapedServer, reader: str, limit_s: float) -> None:
        self._name, self._site, self._server = name, site, server
        self._reader, self._limit_s = reader, limit_s
        self._system = SYSTEMS[name]
        self._closing = ExitStack()
        self._mount: subprocess.Popen[bytes] | None = None
        self._service: subprocess.Popen[bytes] | None = None
        self._drops = 0

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that mean something for it: a loader keeps nothing."""
        return ("cold",) if self._system.kind is Kind.LOADER else PHASES

    def __enter__(self) -> Self:
        """Make the directory, and start what must run already."""
        shutil.rmtree(self._site.work, ignore_errors=True)
        self._site.work.mkdir(parents=True)
        self._plan = self._system.plan(self._site)
        self._variables = environment(self._plan)
        self._log = self._closing.enter_context((self._site.work / "log").open("ab"))
        self._closing.callback(self._unmount)
        if self._plan.service is not None:
            self._service = self._spawn(self._plan.service, subprocess.PIPE)
            self._closing.callback(end, self._service)
            assert self._service.stdout is not None
            if self._service.stdout.readline() != b"ready\n":
                self.__exit__()
                raise RunFailed(f"{self._name} did not start: {self._tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything and remove what was kept."""
        self._closing.close()
        shutil.rmtree(self._site.work, ignore_errors=True)

    def _spawn(self, command: list[str], stdout: int | None = None) -> "subprocess.Popen[bytes]":
        output = self._log if stdout is None else stdout
        return subprocess.Popen(command, env=self._variables, stdout=output, stderr=self._log)

    def play(self, phase: str, turn: int, settle_s: float = 0.0) -> Run:
        """Measure one phase. `settle_s`: look at memory so long after the load.

        Raises:
            RunFailed: when the system or its reader failed, with the end of its log.

        """
        if phase == "warm":
            self._rest()
        if phase != "hot":
            self._unmount()
            drop_caches()
            self._drops = drops()
        module = "benchmarks.streamer" if self._system.kind is Kind.LOADER else "benchmarks.readers"
        readers = Readers(self._reader, self._plan.directory, module, self._variables)
        watch = Watch(self._roots(readers))
        try:
            run = self._timed(phase, turn, readers, watch, settle_s)
            self._check_drops()
        except RunFailed as error:
            raise RunFailed(f"{self._name}, {phase}: {error}; {self._tail()}") from error
        else:
            return run
        finally:
            watch.stop()
            readers.close()

    def _check_drops(self) -> None:
        if drops() != self._drops:
            raise RunFailed("somebody else dropped the page cache meanwhile")

    def _roots(self, readers: Readers) -> set[int]:
        running = {process.pid for process in (self._mount, self._service) if process is not None}
        return running | (readers.pids if self._system.kind is Kind.LOADER else set())

    def _timed(self, phase: str, turn: int, readers: Readers, watch: Watch, settle_s: float) -> Run:
        sent_bytes = self._server.sent_bytes()
        started_s = time.monotonic()
        readers.say_go()
        download_s = download_cpu_s = None
        if self._system.kind is Kind.MOUNT and self._mount is None:
            self._mount = self._spawn(self._plan.command)
            watch.add(self._mount.pid)
        elif self._system.kind is Kind.DOWNLOAD and phase == "cold":
            download_cpu_s = self._download(watch)
            download_s = time.monotonic() - started_s
        times = readers.results(started_s + self._limit_s, self._check)
        time.sleep(settle_s)
        fetched_bytes = self._server.sent_bytes() - sent_bytes
        return Run(
            system=self._name,
            phase=phase,
            turn=turn,
            ready_s=times["ready"] - started_s,
            first_s=times["first"] - started_s,
            total_s=times["last"] - started_s,
            download_s=download_s,
            cpu_s=watch.cpu_s() if download_cpu_s is None else download_cpu_s,
            rss_mb=watch.peak_mb,
            rss_after_mb=watch.last_mb,
            needed_bytes=int(times["bytes"]),
            fetched_bytes=fetched_bytes,
            piece_p50_ms=times["piece_p50_s"] * 1000,
            piece_p99_ms=times["piece_p99_s"] * 1000,
            checksum=checksum_text(times),
        )

    def _download(self, watch: Watch) -> float:
        """Run the command that fetches everything; return its CPU seconds."""
        assert self._plan.download is not None
        process = self._spawn(self._plan.command)
        watch.add(process.pid)
        limit = threading.Timer(self._limit_s, process.kill)
        limit.start()
        cpu_s = reap(process)
        limit.cancel()
        if process.returncode:
            raise RunFailed(f"exit code {process.returncode}")
        self._plan.download.rename(self._plan.directory)
        return cpu_s

    def _check(self) -> None:
        if self._mount is not None and self._mount.poll() is not None:
            raise RunFailed(f"the mount ended with exit code {self._mount.returncode}")

    def _rest(self) -> None:
        """Wait until nothing more is fetched and the cache is on disk."""
        deadline_s, before = time.monotonic() + QUIET_S, -1
        while (now := self._server.sent_bytes()) != before and time.monotonic() < deadline_s:
            before = now
        time.sleep(self._system.before_warm_s)

    def _unmount(self) -> None:
        if self._mount is not None:
            end(self._mount)
            self._mount = None
        while self._system.kind is Kind.MOUNT and mounted_at(self._plan.directory) is not None:
            subprocess.run(["umount", "-l", str(self._plan.directory)], check=True)

    def _tail(self) -> str:
        text = (self._site.work / "log").read_text(errors="replace").strip()
        return text[-500:] or "its log is empty"
