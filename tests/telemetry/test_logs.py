import json
import logging
import threading

import pytest

from lazyfs.telemetry.logs import LINES_MAX, Background, JsonFormatter, TextFormatter, redacted, writer_to


def record(message, *args, level=logging.INFO):
    return logging.LogRecord("lazyfs.x", level, "file", 1, message, args, None)


def test_a_line_has_time_level_event_and_fields():
    line = TextFormatter().format(record("ready mountpoint=%s files=%d", "/mnt/a", 3))

    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert "INFO ready mountpoint=/mnt/a files=3" == rest


def test_the_json_form_has_the_same_fields():
    document = json.loads(JsonFormatter().format(record("retry blob=%r error=%r n=%d", "a b'c", 'x "y"', 3)))

    del document["time"]
    assert {"level": "info", "event": "retry", "blob": "a b'c", "error": 'x "y"', "n": 3} == document


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_traceback_comes_along(formatter):
    try:
        raise ValueError("inside")
    except ValueError:
        import sys

        found = logging.LogRecord("lazyfs.x", logging.ERROR, "f", 1, "broken", (), sys.exc_info())

    assert "ValueError: inside" in formatter.format(found)


@pytest.mark.parametrize(
    "text",
    [
        "GET http://h/k?X-Amz-Signature=SECRET&x=1",
        "X-Amz-Credential=SECRET/20260101",
        "x-amz-security-token=SECRET",
        "AWSAccessKeyId=SECRET&Signature=SECRET",
    ],
)
def test_what_looks_like_a_signature_is_taken_out(text):
    assert "SECRET" not in redacted(text)
    assert "SECRET" not in TextFormatter().format(record(text.replace("%", "%%")))


def test_other_text_stays():
    assert "fetch_retry blob='tokens.json' error='x'" == redacted("fetch_retry blob='tokens.json' error='x'")


def test_who_logs_never_waits_for_whoever_reads():
    stuck, drained, written = threading.Event(), threading.Event(), []

    def write(line):
        stuck.wait(60)
        written.append(line)
        if len(written) >= LINES_MAX:
            drained.set()

    handler = Background(write)
    handler.setFormatter(TextFormatter())
    for number in range(LINES_MAX + 10):
        handler.emit(record("event n=%d", number))
    stuck.set()
    assert drained.wait(60)
    handler.close()

    assert LINES_MAX <= len(written) < LINES_MAX + 10
    assert 1 == sum("log_lines_dropped" in line for line in written)


def test_what_was_logged_is_written_when_it_is_closed(tmp_path):
    file = tmp_path / "log"
    with file.open("wb") as opened:
        handler = Background(writer_to(opened.fileno()))
        handler.setFormatter(TextFormatter())
        handler.emit(record("event name=%r", "\udc80"))
        handler.close()

    assert file.read_text().endswith("INFO event name='\\udc80'\n")
