"""Log lines: one per event, `event key=value ...` or JSON. Never a credential, a signature or a query string.

Modules log `log.info("event key=%s other=%r", ...)`: the event first, then its fields. The JSON form has the
same fields, taken from the same line.
"""

import ast
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue

from lazyfs.errors import UsageError

Write = Callable[[str], object]
DROPPED = "log_lines_dropped count=%d"
LINES_MAX = 10_000
CLOSE_S = 0.5
_FIELD = re.compile(r"(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S*)")
_SECRET = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|token|authorization)=[^&\s'\"]+",
    re.IGNORECASE,
)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO event key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback below it when the record has one."""
        line = f"{_stamp(record)} {record.levelname} {redacted(record.getMessage())}"
        if record.exc_info:
            line += "\n" + redacted(self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """The same as one JSON object per line: `time`, `level`, `event`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        message = redacted(record.getMessage())
        fields = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "event": message.split(" ", 1)[0],
        }
        fields |= {name: _plain(value) for name, value in _FIELD.findall(message)}
        if record.exc_info:
            fields["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(fields)


def _stamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _plain(value: str) -> str | float:
    """Return what a field's text stands for: a number, the content of a quoted text, or itself."""
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return found if isinstance(found, str | int | float) else value


def redacted(text: str) -> str:
    """Return `text` without signatures and tokens: a guard, for what other libraries put into messages."""
    return _SECRET.sub(r"\1=REDACTED", text)


class Background(logging.Handler):
    """Writes lines from a thread: who logs never waits for a full pipe, a stopped terminal or a slow disk.

    Lines beyond `LINES_MAX` waiting ones are dropped, and counted in the next that is written. `write` should
    hold no lock that the interpreter wants when it ends (that of sys.stderr is one).
    """

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write
        self._lines: Queue[str | None] = Queue(LINES_MAX)
        self._dropped_count = 0
        self._thread = threading.Thread(target=self._work, daemon=True, name="log")
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line."""
        try:
            self._lines.put_nowait(self.format(record))
        except Full:
            self._dropped_count += 1

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._dropped_count:
                line = f"{self._about_dropped()}\n{line}"
            with suppress(OSError):  # whoever read it is gone
                self._write(line)

    def _about_dropped(self) -> str:
        count, self._dropped_count = self._dropped_count, 0
        return self.format(logging.LogRecord("", logging.WARNING, "", 0, DROPPED, (count,), None))

    def close(self) -> None:
        """Let the thread write what waits, for a moment."""
        with suppress(Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_S)
        super().close()


def writer_to(fd: int) -> Write:
    """Return what writes lines to a descriptor."""

    def write(line: str) -> None:
        content = f"{line}\n".encode("utf-8", "backslashreplace")
        while content:
            content = content[os.write(fd, content) :]

    return write


def unwritable(file: Path | None, error: OSError) -> UsageError:
    """Return what to say of a log file that cannot be written."""
    return UsageError(f"log file {file}: {error.strerror}", "make it writable, or choose another --log-file")


def open_log(file: Path) -> int:
    """Open a log file to append to, and return its descriptor.

    Raises:
        UsageError: when that is not possible.

    """
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise unwritable(file, error) from None


def configure(level: str, log_format: str, to: Path | Write | None) -> None:
    """Send log lines of this process to a file, to whatever writes them, or (None) to standard error.

    Raises:
        UsageError: when the file cannot be opened.

    """
    if isinstance(to, Path):
        to = writer_to(open_log(to))
    handler = Background(to or writer_to(2))
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lazyfs").setLevel(level)
    # urllib3 puts whole URLs, with their signatures, into warnings; what matters of them we log ourselves.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger("botocore").setLevel(logging.ERROR)
