"""Real mounts by the real command, for end-to-end tests. A mount is never served by this process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lazyfs.fuse.channel import detach
from lazyfs.fuse.mountinfo import mounted_at

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class Mount:
    """A running `lazyfs mount`."""

    def __init__(self, process: "subprocess.Popen[bytes]", path: Path, log: Path) -> None:
        self.process = process
        self.path = path
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def logged(self, event: str) -> list[str]:
        return [line for line in self.log.splitlines() if re.search(rf" {event}\b", line)]

    def wait_for_log(self, event: str, count: int = 1, timeout_s: float = 60.0) -> list[str]:
        """Wait until an event has been logged so often; return its lines.

        A line is written by a thread, some time after what it tells of.
        """
        deadline = time.monotonic() + timeout_s
        while len(lines := self.logged(event)) < count:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)
        return lines

    def status(self) -> dict:
        return json.loads((self.path / ".lazyfs" / "status.json").read_text())

    def wait_for(self, condition, timeout_s: float = 60.0) -> dict:
        """Wait until the status satisfies `condition`; return it."""
        deadline = time.monotonic() + timeout_s
        while not condition(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status

    def complete(self) -> dict:
        return self.wait_for(lambda status: status["phase"] == "complete")

    @property
    def worker(self) -> int:
        """The process that serves it now: the only child of the one that holds it."""
        (child,) = self.children()
        return child

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(STOP_TIMEOUT_S)


def lazyfs(
    *arguments: object,
    env: dict[str, str] | None = None,
    timeout: float = 60.0,
    joining: Callable[[], None] | None = None,
):
    """Run a command to its end; return it with its output as text. It begins with `joining`."""
    return subprocess.run(
        [sys.executable, "-m", "lazyfs", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=env, timeout=timeout, preexec_fn=joining,
    )  # fmt: skip


@contextmanager
def mounted(
    source: str | Sequence[str],
    path: Path,
    *options: object,
    env: dict[str, str] | None = None,
    clean: bool = True,
    program: tuple[str, ...] = ("-m", "lazyfs"),
    prefix: Sequence[str] = (),
    joining: Callable[[], None] | None = None,
) -> Iterator[Mount]:
    """Mount for the length of a block; with `clean`, the end must be a clean one.

    It begins with `joining`; `prefix` is a command that turns into the one after it.
    """
    with suppress(FileExistsError):  # and no look at it: a dead mount may be there
        os.mkdir(path)  # noqa: PTH102 - Path.mkdir would look
    log = path.with_name(f"{path.name}.log")
    sources = [source] if isinstance(source, str) else source
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*prefix, sys.executable, *program, "mount", *sources, str(path), *map(str, options)],
            stdin=subprocess.DEVNULL, stderr=stderr, env=env, preexec_fn=joining,  # noqa: PLW1509
        )  # fmt: skip
    found = Mount(process, path, log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not found.logged("ready"):
            assert process.poll() is None, found.log
            assert time.monotonic() < deadline, found.log
            time.sleep(0.01)
        yield found
        if clean and process.poll() is None:
            found.end()
            assert 0 == process.returncode, found.log
            assert mounted_at(path) is None
            assert "Traceback" not in found.log, found.log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        detach(path)


def metrics(port: int) -> dict[str, float]:
    """Return what a mount with `--http` on this port counts, by series."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    counted = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in counted}


def alive(pid: int) -> bool:
    """Tell whether a process is there, and not just nobody's to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def inherited() -> dict[str, str]:
    """Return this process's environment without what configures lazyfs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAZYFS_")}
