"""Progress on a terminal.

Of a mount: a line when it is ready, a bar while it loads, a line at the end. Of a pull, and of filling the
cache: a bar.

A terminal may be stopped (Ctrl-S), and a mount must go on: everything is drawn by a thread.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lazyfs.telemetry.status import Phase, Status, bytes_text, duration_text
from lazyfs.telemetry.transfer import Transfer

CLOSE_S = 0.5

Shown = TypeVar("Shown")
Seen_contra = TypeVar("Seen_contra", contravariant=True)


class Drawing(Protocol[Seen_contra]):
    """Draws one kind of status."""

    def show(self, status: Seen_contra) -> None:
        """Show a status."""

    def close(self) -> None:
        """Take the bar away."""


class TerminalProgress(Generic[Shown]):
    """Call it with each status; the latest is drawn."""

    def __init__(self, drawing: Callable[[Console], Drawing[Shown]]) -> None:
        self._drawing = drawing
        # A file of its own: the interpreter would wait for the lock of sys.stderr when it ends.
        self._console = Console(file=os.fdopen(os.dup(2), "w", errors="backslashreplace"))
        self._todo: SimpleQueue[None] = SimpleQueue()
        self._status: Shown | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="progress")
        self._thread.start()

    def __call__(self, status: Shown) -> None:
        """Have a status drawn."""
        self._status = status
        if self._todo.empty():
            self._todo.put(None)

    def line(self, text: str) -> None:
        """Write a line above the bar; it may take long."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _work(self) -> None:
        drawing = self._drawing(self._console)
        while True:
            self._todo.get()
            if self._closed.is_set():
                drawing.close()
                return
            if self._status is not None:
                drawing.show(self._status)

    def close(self) -> None:
        """Take the bar away."""
        self._closed.set()
        self._todo.put(None)
        self._thread.join(CLOSE_S)


class MountDrawing:
    """The bar of a mount, and the lines around it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = _bar(console)
        self._task = self._bar.add_task("loading", total=None, text="")
        self._announced = False
        self._done = False

    def show(self, status: Status) -> None:
        """Show a status."""
        if not self._announced:
            self._announced = True
            self._console.print(
                f"{status.source} is ready at {status.mountpoint} after "
                f"{duration_text(status.ready_after_s or 0.0)}: {status.files} files, "
                f"{bytes_text(status.bytes_needed)}. Ctrl-C unmounts.",
                soft_wrap=True,
                highlight=False,
            )
        if self._done:
            return
        if status.phase in {Phase.COMPLETE, Phase.SERVING}:
            self._finish(status)
            return
        self._bar.start()
        self._bar.update(
            self._task,
            description=status.phase,
            total=status.bytes_needed,
            completed=status.bytes_local,
            text=_line(status),
        )

    def _finish(self, status: Status) -> None:
        self._done = True
        self.close()
        after = status.complete_after_s
        text = (
            f"All {bytes_text(status.bytes_needed)} are on this node after {duration_text(after)}."
            if after is not None and status.bytes_fetched
            else f"{bytes_text(status.bytes_local)} of {bytes_text(status.bytes_needed)} are on this node."
        )
        self._console.print(text, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.update(self._task, visible=False)
        self._bar.stop()


class TransferDrawing:
    """The bar of a pull."""

    def __init__(self, console: Console) -> None:
        self._bar = _bar(console)
        self._task = self._bar.add_task("", total=None, text="")

    def show(self, status: Transfer) -> None:
        """Show how far it is."""
        self._bar.start()
        self._bar.update(self._task, total=status.size_bytes, completed=status.done_bytes, text=status.text)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.update(self._task, visible=False)
        self._bar.stop()


def _bar(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.fields[text]}")
    return Progress(*columns, console=console)


def _line(status: Status) -> str:
    parts = [
        f"{bytes_text(status.bytes_local)} of {bytes_text(status.bytes_needed)}",
        f"{bytes_text(status.rate_bytes_per_s)}/s",
    ]
    if status.eta_s is not None:
        parts.append(f"{duration_text(status.eta_s)} to go")
    if status.oldest_wait_s > 1:
        parts.append(f"a reader waits for {status.oldest_wait}")
    return ", ".join(parts)
