"""Log lines: one per event, `event key=value ...` or JSON. Never a credential, a signature or a query string.

Modules log `log.info("event key=%s other=%r", ...)`: the event first, then its fields. The JSON form has the
same fields, taken from the same line.
"""

import json
import logging
import re
import sys
import time
from pathlib import Path

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


def _plain(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value


def redacted(text: str) -> str:
    """Return `text` without signatures and tokens: a guard, for what other libraries put into messages."""
    return _SECRET.sub(r"\1=REDACTED", text)


def configure(level: str, log_format: str, file: Path | None) -> None:
    """Send log lines of this process to `file`, or to standard error.

    Raises:
        OSError: when the file cannot be opened.

    """
    handler = logging.StreamHandler(sys.stderr) if file is None else logging.FileHandler(file)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lazyfs").setLevel(level)
    # urllib3 puts whole URLs, with their signatures, into warnings; what matters of them we log ourselves.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger("botocore").setLevel(logging.ERROR)
