"""`lazyfs mount`."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from lazyfs.config import MountOptions
from lazyfs.core.layout import refuse_several
from lazyfs.supervisor.daemon import Ready, default_log_file, run_detached
from lazyfs.supervisor.preflight import refuse_inside, resolve
from lazyfs.supervisor.supervise import supervise
from lazyfs.telemetry.logs import configure
from lazyfs.telemetry.status import duration_text


def mount_attached(sources: list[str], mountpoint: Path, options: MountOptions) -> None:
    """Mount and hold it in the foreground: a progress bar on a terminal, log lines otherwise.

    Raises:
        LazyfsError: when it cannot be mounted; at once for sources that do not go with the layout.

    """
    refuse_several(sources, options.layout)
    refuse_inside(mountpoint, cache_dir=options.cache_dir, log_file=options.log_file)
    terminal = options.log_file is None and sys.stderr.isatty()
    level = "WARNING" if terminal and options.log_level == "INFO" else options.log_level
    configure(level, options.log_format, options.log_file)
    supervise(sources, mountpoint, options, _unannounced, terminal=terminal)


def _unannounced(_status: dict[str, Any]) -> None:
    """Do nothing: the log says it, or the terminal shows it."""


def mount_detached(sources: list[str], mountpoint: Path, options: MountOptions) -> None:
    """Mount, return when ready, and leave the mount to a process of its own.

    Raises:
        LazyfsError: see `mount_attached`.

    """
    refuse_several(sources, options.layout)
    path = resolve(mountpoint)
    refuse_inside(path, cache_dir=options.cache_dir, log_file=options.log_file)
    log_file = (options.log_file or default_log_file(path)).absolute()
    cache_dir = options.cache_dir.absolute() if options.cache_dir is not None else None
    options = dataclasses.replace(options, cache_dir=cache_dir, log_file=log_file)

    def work(ready: Ready) -> None:
        configure(options.log_level, options.log_format, log_file)
        supervise(sources, path, options, ready)

    status = run_detached(work, log_file)
    sys.stdout.write(
        f"{' '.join(sources)} is ready at {path} after {duration_text(status['ready_after_s'])} "
        f"(pid {status['pid']}, log {log_file})\n"
    )
