"""Progress of a mount on a terminal: a line when it is ready, a bar while it loads, a line at the end."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lazyfs.telemetry.status import Phase, Status, bytes_text, duration_text


class TerminalProgress:
    """Call it with each status."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(40),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._task = self._bar.add_task("loading", total=None, text="")
        self._announced = False
        self._done = False

    def __call__(self, status: Status) -> None:
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
