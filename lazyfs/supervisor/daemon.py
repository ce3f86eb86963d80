"""`lazyfs mount --daemon`: the command returns when the mount is ready, and the mount stays."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lazyfs.config import home
from lazyfs.errors import LazyfsError, Reported
from lazyfs.telemetry.logs import unwritable

log = logging.getLogger(__name__)

Ready = Callable[[dict[str, Any]], None]
"""Called once the mount is ready, with its status."""


def default_log_file(mountpoint: Path) -> Path:
    """Return where a daemon writes its log when it was not told."""
    state = os.environ.get("XDG_STATE_HOME") or str(home() / ".local" / "state")
    directory = Path("/var/log/lazyfs") if os.geteuid() == 0 else Path(state) / "lazyfs"
    return directory / (str(mountpoint).strip("/").replace("/", "-") + ".log")


def run_detached(work: Callable[[Ready], None], log_file: Path) -> dict[str, Any]:
    """Run `work` in a detached process; return once it has said that it is ready, with its status.

    `work` is given a function to call when it is ready. Nothing may have started a thread before.

    Raises:
        UsageError: when the log file cannot be written.
        LazyfsError: what `work` raised before it was ready, with the same cause, cure and exit code.

    """
    try:
        log_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        log_fd = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise unwritable(log_file, error) from None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _live_on(work, writing, log_fd)
    os.close(writing)
    os.close(log_fd)
    # The pipe breaks with us (Ctrl-C): the child, which is in a session of its own, ends by that.
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise LazyfsError("the mount process ended without a word", f"see its log, {log_file}")
    document: dict[str, Any] = json.loads(said)
    if "error" in document:
        raise Reported(document["error"], document["cure"], document["exit_code"])
    return document


def _live_on(work: Callable[[Ready], None], writing: int, log_fd: int) -> NoReturn:
    """Leave the terminal and the session behind, then work."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    told = False

    def tell(document: dict[str, Any]) -> None:
        nonlocal told
        if not told:
            told = True
            try:
                os.write(writing, json.dumps(document).encode())
            except BrokenPipeError:
                raise LazyfsError("whoever asked for the mount is gone", "mount again") from None
            finally:
                os.close(writing)

    try:
        work(tell)
    except LazyfsError as error:
        if told:
            log.error("ended why=%r", str(error))  # noqa: TRY400 - it says all there is to say
        tell({"error": error.cause, "cure": error.cure, "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    sys.exit(0)
