"""`lazyfs mount`."""

import dataclasses
import faulthandler
import signal
import sys
from pathlib import Path

from lazyfs.config import MountOptions
from lazyfs.mount.daemon import Ready, default_log_file, run_detached
from lazyfs.mount.lifecycle import mount
from lazyfs.mount.preflight import refuse_inside, resolve
from lazyfs.telemetry.logs import configure
from lazyfs.telemetry.status import Status, duration_text


def mount_attached(source: str, mountpoint: Path, options: MountOptions) -> None:
    """Mount and serve in the foreground: a progress bar on a terminal, log lines otherwise."""
    faulthandler.register(signal.SIGUSR1)
    refuse_inside(mountpoint, cache_dir=options.cache_dir, log_file=options.log_file)
    if options.log_file is not None or not sys.stderr.isatty():
        configure(options.log_level, options.log_format, options.log_file)
        mount(source, mountpoint, options, _unannounced)
        return
    from lazyfs.telemetry.progress import TerminalProgress  # noqa: PLC0415 - only a terminal needs it

    progress = TerminalProgress()
    level = "WARNING" if options.log_level == "INFO" else options.log_level
    configure(level, options.log_format, progress.line)
    try:
        mount(source, mountpoint, options, progress)
    finally:
        progress.close()


def _unannounced(_status: Status) -> None:
    """Do nothing: the log says it."""


def mount_detached(source: str, mountpoint: Path, options: MountOptions) -> None:
    """Mount, return when ready, and leave the mount to a process of its own."""
    path = resolve(mountpoint)
    refuse_inside(path, cache_dir=options.cache_dir, log_file=options.log_file)
    log_file = (options.log_file or default_log_file(path)).absolute()
    cache_dir = options.cache_dir.absolute() if options.cache_dir is not None else None
    options = dataclasses.replace(options, cache_dir=cache_dir, log_file=log_file)

    def work(ready: Ready) -> None:
        faulthandler.register(signal.SIGUSR1)
        configure(options.log_level, options.log_format, log_file)
        mount(source, path, options, ready)

    status = run_detached(work, log_file)
    sys.stdout.write(
        f"{source} is ready at {path} after {duration_text(status['ready_after_s'])} "
        f"(pid {status['pid']}, log {log_file})\n"
    )
