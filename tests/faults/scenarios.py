"""The table of faults: what a server may do to one request, and what must come of it. One row, one fault.

A row's `verdict` is what one read by the transport raises, None when it is right all the same. What a reader
of a mount sees follows from it:

* a fault that passes (`passes`) is retried inside: right bytes;
* one that lasts is, at once or after the deadline, `errno_lasting`.

A server that sends wrong bytes with right headers is not in the table: nothing in HTTP or S3 shows it. Only a
digest by the publisher could. *Garbage* here is what HTTP can show: in heads, in framing, in lengths.
"""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass

from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    BlobChanged,
    LazyfsError,
    LocationLapsed,
    LocationRefused,
    SourceThrottled,
    SourceUnavailable,
)
from tests.faults.server import GOOD, Asked, Behaviour

Make = Callable[[Asked, random.Random], Behaviour]
"""A request for a range, and chance (where to cut, say) -> what the server does."""
_AGAIN = "&again=1"
"""Marks a URL that the server itself redirected to."""


@dataclass(frozen=True)
class Scenario:
    """One fault."""

    name: str
    make: Make
    verdict: type[LazyfsError] | None = None
    slow: bool = False
    """Whether noticing it takes the transport's patience."""

    @property
    def passes(self) -> bool:
        """Whether a reader gets right bytes when it does not last. A location is renewed once."""
        return self.verdict is None or self.verdict.retryable or self.verdict is LocationRefused

    @property
    def errno_lasting(self) -> int | None:
        """What a reader gets when it lasts; None for the right bytes."""
        return None if self.verdict is None else self.verdict.errno


def _length(asked: Asked) -> int:
    start, stop = asked.span or (0, 1)
    return stop - start


def _always(how: Behaviour) -> Make:
    return lambda _asked, _chance: how


def _within(field: str) -> Make:
    """Return a maker whose behaviour happens somewhere within the body."""
    return lambda asked, chance: Behaviour(**{field: chance.randrange(_length(asked))})


def _redirected(asked: Asked, _chance: random.Random) -> Behaviour:
    if asked.path.endswith(_AGAIN):
        return GOOD
    place = asked.path if "?" in asked.path else f"{asked.path}?"
    return Behaviour(status=307, headers={"Location": place + _AGAIN})


def _redirected_for_ever(asked: Asked, _chance: random.Random) -> Behaviour:
    return Behaviour(status=302, headers={"Location": asked.path})


def _too_long(asked: Asked, chance: random.Random) -> Behaviour:
    return Behaviour(body=chance.randbytes(_length(asked) + 1 + chance.randrange(5000)))


def _too_short(asked: Asked, chance: random.Random) -> Behaviour:
    return Behaviour(body=chance.randbytes(chance.randrange(_length(asked))))


def _elsewhere(asked: Asked, _chance: random.Random) -> Behaviour:
    """Say that it is the range that was asked for, of another length of the object."""
    start, stop = asked.span or (0, 1)
    return Behaviour(headers={"Content-Range": f"bytes {start}-{stop - 1}/{stop + 10**6}"})


def _status(code: int, **headers: str) -> Make:
    return _always(Behaviour(status=code, headers={k.replace("_", "-"): v for k, v in headers.items()}))


def _refusal(status: int, code: str) -> Make:
    return _always(Behaviour(status=status, body=f"<Error><Code>{code}</Code></Error>".encode()))


_FRAMED_TWICE = {"Transfer-Encoding": "identity, chunked"}
_CHUNKED_206 = b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes %d-%d/*\r\n\r\n"


def _bad_chunks(asked: Asked, chance: random.Random) -> Behaviour:
    start, stop = asked.span or (0, 1)
    return Behaviour(raw=_CHUNKED_206 % (start, stop - 1) + b"zz\r\n" + chance.randbytes(100))


_UNAVAILABLE, _THROTTLED, _BAD, _CHANGED = SourceUnavailable, SourceThrottled, BadResponse, BlobChanged

_ODD_AND_RIGHT = (
    Scenario("good", _always(GOOD)),
    Scenario("late", lambda _asked, chance: Behaviour(delay_s=chance.random() * 0.2)),
    Scenario("dripping", _always(Behaviour(trickle_s=0.005, trickle_bytes=16 << 10))),
    Scenario("chunked", _always(Behaviour(chunked=True))),
    Scenario("no length", _always(Behaviour(without=("Content-Length",), close=True))),
    Scenario("closes", _always(Behaviour(close=True))),
    Scenario("weak ETag", _always(Behaviour(headers={"ETag": 'W/"v1"'}))),
    Scenario("no ETag", _always(Behaviour(without=("ETag",)))),
    Scenario("redirect", _redirected),
    Scenario("200 instead of 206", _always(Behaviour(ignore_range=True))),
    Scenario("garbage after the body", _always(Behaviour(extra=b"\0garbage\r\n\r\n"))),
)
_BROKEN_CONNECTIONS = (
    Scenario("closed at once", _always(Behaviour(raw=b"")), _UNAVAILABLE),
    Scenario("reset at once", _always(Behaviour(raw=b"", reset_after=0)), _UNAVAILABLE),
    Scenario("reset midway", _within("reset_after"), _UNAVAILABLE),
    Scenario("cut midway", _within("cut_after"), _BAD),
    Scenario("down for a while", _always(Behaviour(down_s=0.3)), _UNAVAILABLE),
    Scenario("silent", _always(Behaviour(raw=b"", stall_after=0)), _UNAVAILABLE, slow=True),
    Scenario(
        "stalled in the head", _always(Behaviour(raw=b"HTTP/1.1 20", stall_after=0)), _UNAVAILABLE, slow=True
    ),
    Scenario("stalled midway", _within("stall_after"), _UNAVAILABLE, slow=True),
    Scenario("trickling", _always(Behaviour(trickle_s=0.05)), _UNAVAILABLE, slow=True),
)
_NOT_WHAT_WAS_ASKED_FOR = (
    Scenario("wrong range", _always(Behaviour(shift=4096)), _BAD),
    Scenario("no Content-Range", _always(Behaviour(without=("Content-Range",))), _BAD),
    Scenario("unsatisfied Content-Range", _always(Behaviour(headers={"Content-Range": "bytes */1"})), _BAD),
    Scenario("truncated", _too_short, _BAD),
    Scenario("extended", _too_long, _BAD),
    Scenario("extended, without a length",
             _always(Behaviour(without=("Content-Length",), extra=b"x", close=True)), _BAD),
    Scenario("garbage head", lambda _asked, chance: Behaviour(raw=chance.randbytes(200) + b"\r\n\r\n"), _BAD),
    Scenario("garbage in the framing", _bad_chunks, _BAD),
    Scenario("unknown framing", _always(Behaviour(chunked=True, headers=_FRAMED_TWICE)), _BAD),
    Scenario("endless head", _always(Behaviour(raw=b"HTTP/1.1 206 x\r\n" + b"a: b\r\n" * 1000)), _BAD),
    Scenario("redirect loop", _redirected_for_ever, _BAD),
    Scenario("redirect to nowhere", _status(302, Location="ftp://nowhere/"), _BAD),
)  # fmt: skip
_REFUSED_IN_PASSING = (
    (400, "SlowDown", _THROTTLED),
    (400, "KMS.ThrottlingException", _THROTTLED),
    (400, "RequestTimeout", _UNAVAILABLE),
    (403, "RequestTimeTooSkewed", LocationLapsed),
    (400, "ExpiredToken", LocationLapsed),
)
_ANSWERS = (
    *(Scenario(str(code), _status(code), _UNAVAILABLE) for code in (408, 500, 502, 504)),
    *(Scenario(str(code), _status(code), _BAD) for code in (103, 204, 304)),
    *(Scenario(str(code), _status(code), _THROTTLED) for code in (429, 503)),
    Scenario("503 with Retry-After", _status(503, Retry_After="1"), _THROTTLED),
    Scenario("503 with a bad Retry-After", _status(503, Retry_After="soon"), _THROTTLED),
    *(Scenario(str(code), _status(code), LocationRefused) for code in (400, 401, 403)),
    *(
        Scenario(f"{code} {name}", _refusal(code, name), verdict)
        for code, name, verdict in _REFUSED_IN_PASSING
    ),
    Scenario("405", _status(405), AccessDenied),
    *(Scenario(str(code), _status(code), _CHANGED) for code in (404, 410, 412, 416)),
    Scenario("wrong ETag", _always(Behaviour(headers={"ETag": '"v2"'})), _CHANGED),
    Scenario("of another size", _elsewhere, _CHANGED),
)

SCENARIOS = {
    row.name: row for row in (*_ODD_AND_RIGHT, *_BROKEN_CONNECTIONS, *_NOT_WHAT_WAS_ASKED_FOR, *_ANSWERS)
}
assert all(row.errno_lasting in {None, errno.EIO, errno.EACCES, errno.ESTALE} for row in SCENARIOS.values())
