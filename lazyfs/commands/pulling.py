"""`lazyfs pull`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazyfs.config import PullOptions, TransferOptions
from lazyfs.pull.ending import Ended, ending_signals, raise_ended
from lazyfs.pull.run import Outcome, pull
from lazyfs.pull.watching import Show
from lazyfs.telemetry.logs import configure
from lazyfs.telemetry.status import bytes_text, duration_text
from lazyfs.telemetry.transfer import Transfer


def pull_into(source: str, directory: Path, options: PullOptions) -> str:
    """Pull, and return what to say at the end.

    Raises:
        LazyfsError: when not every file is there, and right.

    """
    with showing(
        options, f"what has come is kept in {directory}; the same command goes on from there"
    ) as show:
        return _line(pull(source, directory, options, show), directory)


def _line(outcome: Outcome, directory: Path) -> str:
    brought_bytes = outcome.network_bytes + outcome.cache_bytes
    rate = f", {bytes_text(brought_bytes / outcome.seconds)}/s" if brought_bytes else ""
    here_bytes = outcome.kept_bytes + outcome.found_bytes
    return (
        f"{directory} has all {outcome.files} files, {bytes_text(outcome.size_bytes)}, after "
        f"{duration_text(outcome.seconds)}{rate}: {bytes_text(outcome.network_bytes)} from the network, "
        f"{bytes_text(outcome.cache_bytes)} from the node's cache, {bytes_text(here_bytes)} were there. "
        f"{_verified(outcome)}"
    )


def _verified(outcome: Outcome) -> str:
    if outcome.verified == outcome.files:
        return "All have their publisher's digest."
    if not outcome.verified:
        return "None could be verified: the source gives no digests."
    rest = outcome.files - outcome.verified
    return f"{outcome.verified} have their publisher's digest; {rest} could not be verified, having none."


@contextmanager
def showing(options: TransferOptions, when_ended: str) -> Iterator[Show]:
    """Give what shows progress: a bar on a terminal, log lines otherwise. A signal ends it, with a word."""
    for number in ending_signals():
        signal.signal(number, raise_ended)
    progress = None
    if options.log_file is None and sys.stderr.isatty():
        from lazyfs.telemetry.progress import (  # noqa: PLC0415 - only a terminal needs it
            TerminalProgress,
            TransferDrawing,
        )

        progress = TerminalProgress(TransferDrawing)
        level = "WARNING" if options.log_level == "INFO" else options.log_level
        configure(level, options.log_format, progress.line)
    else:
        configure(options.log_level, options.log_format, options.log_file)
    try:
        yield progress or _unshown
    except Ended as ended:
        for number in ending_signals():
            signal.signal(number, signal.SIG_IGN)
        if progress is not None:
            progress.close()
        sys.stderr.write(f"lazyfs: {ended}; {when_ended}\n")
        sys.exit(ended.exit_code)
    finally:
        if progress is not None:
            progress.close()


def _unshown(_transfer: Transfer) -> None:
    """Do nothing: the log says it."""
