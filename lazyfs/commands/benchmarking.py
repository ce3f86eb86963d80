"""`lazyfs bench`: what this node, this link and this bucket can do, and which options to set."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from lazyfs.bench import page
from lazyfs.bench.report import bench
from lazyfs.config import BenchOptions
from lazyfs.telemetry.logs import configure
from lazyfs.telemetry.status import bytes_text

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def page_of(address: str, options: BenchOptions, *, as_document: bool) -> str:
    """Measure, and return the page, or the JSON document.

    Raises:
        LazyfsError: when the source or the cache directory cannot be used.

    """
    configure("ERROR", "text", None)  # what a person should know stands on the page
    for number in ENDING:
        signal.signal(number, _unwind)
    with _progress() as tell:
        tell(f"Downloading up to {bytes_text(options.budget)}")
        report = bench(address, options, tell)
    return page.as_json(report) if as_document else "\n".join(page.as_lines(report))


def _unwind(number: int, _frame: object) -> NoReturn:
    """Handle the first signal: clean up, then end. More of them change nothing."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Give what shows a step on a terminal, one over the other; nothing where there is none."""
    shown = sys.stderr.isatty()

    def tell(text: str) -> None:
        if shown:
            sys.stderr.write(f"\r\033[K{text} ...")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        if shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
