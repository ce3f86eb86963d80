"""One ranged GET into a buffer: what each status code, header and body means, decided once for all sources.

The bytes are taken only when the reply proves that they are the ones asked for: a 206 with exactly this
Content-Range, or the right stretch of a 200 that is the whole object; of the pinned version; of the right
length.
"""

import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urljoin, urlsplit

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location, same_etag
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    BlobChanged,
    LazyfsError,
    LocationRefused,
    SourceThrottled,
    SourceUnavailable,
    SourceUntrusted,
)
from lazyfs.transport.connection import Connection, Patience, Reply, tls_context

REDIRECTS_MAX = 5
CONNECTIONS_PER_LANE = 2
"""One to the storage, one to whatever redirects there."""

OK, PARTIAL = 200, 206
_REFUSED = {400, 401, 403}
_GONE = {404, 410, 412, 416}
_REDIRECTS = {301, 302, 303, 307, 308}
_THROTTLED = {429, 503}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes `span` of an object that is `size_bytes` long."""

    span: ByteRange
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a GET cost: seconds to the first byte, and whether the server ignored the range."""

    first_byte_s: float
    whole_object: bool


class RangeReader:
    """Reads ranges over keep-alive connections of its own; used by one thread at a time."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._connections: dict[tuple[str, str], Connection] = {}
        self._tls: ssl.SSLContext | None = None

    def fetch(
        self, location: Location, wanted: Wanted, into: memoryview, landed: Callable[[int], None]
    ) -> Receipt:
        """Read `wanted` from `location` into `into`, or raise.

        `into` is as long as the wanted span; `landed` hears of every piece. What was reported as landed
        stays right even when an error follows.

        Raises:
            LocationRefused: 400, 401, 403: the location may have expired.
            BlobChanged: 404, 410, 412, 416, another ETag or another size.
            SourceThrottled: 429, 503.
            SourceUnavailable: everything that may pass: time-outs, resets, short bodies, other 5xx.

        """
        started = time.monotonic()
        url, headers = urlsplit(location.url), dict(location.headers)
        headers |= {
            "Range": f"bytes={wanted.span.start}-{wanted.span.stop - 1}",
            "Accept-Encoding": "identity",
        }
        for _ in range(REDIRECTS_MAX + 1):
            connection, reply = self._get(url, headers)
            first_byte_s = time.monotonic() - started
            try:
                if reply.status in _REDIRECTS:
                    url, headers = _follow(url, reply, headers)
                    reply.text()
                    continue
                _check(reply, connection.host, location, wanted)
                _receive(reply, connection.host, wanted, into, landed)
                return Receipt(first_byte_s, whole_object=reply.status == OK)
            finally:
                reply.close()
                if not reply.complete:
                    self._close(connection)
        raise BadResponse(f"{url.hostname} redirects in a circle")

    def _get(self, url: SplitResult, headers: dict[str, str]) -> tuple[Connection, Reply]:
        """Send the request; once more on a new connection when a kept one turns out to be closed."""
        connection = self._connection(url)
        reused = connection.used
        try:
            return connection, connection.get(url, headers)
        except SourceUnavailable:
            self._close(connection)
            if not reused:
                raise
        connection = self._connection(url)
        try:
            return connection, connection.get(url, headers)
        except BaseException:
            self._close(connection)
            raise

    def _connection(self, url: SplitResult) -> Connection:
        key = (url.scheme, url.netloc)
        connection = self._connections.pop(key, None)
        if connection is None:
            if url.scheme == "https" and self._tls is None:
                self._tls = tls_context()
            while len(self._connections) >= CONNECTIONS_PER_LANE:
                self._close(next(iter(self._connections.values())))
            connection = Connection(url, self._patience, self._tls)
        self._connections[key] = connection
        return connection

    def _close(self, connection: Connection) -> None:
        self._connections = {k: c for k, c in self._connections.items() if c is not connection}
        connection.close()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            self._close(connection)


def _follow(url: SplitResult, reply: Reply, headers: dict[str, str]) -> tuple[SplitResult, dict[str, str]]:
    """Return where a redirect leads and what to send there: no credentials to another host."""
    target = urlsplit(urljoin(url.geturl(), reply.headers.get("Location", "")))
    if target.scheme not in {"http", "https"} or not target.hostname:
        raise BadResponse(f"{url.hostname} redirects to something that is not a URL")
    if url.scheme == "https" and target.scheme == "http":
        raise SourceUntrusted(
            f"{url.hostname} redirects from https to http", "weights are not read over an unprotected link"
        )
    if (target.scheme, target.netloc) != (url.scheme, url.netloc):
        headers = {k: v for k, v in headers.items() if k.lower() not in {"authorization", "cookie"}}
    return target, headers


def _check(reply: Reply, host: str, location: Location, wanted: Wanted) -> None:
    """Raise unless this reply's body holds the wanted bytes of the pinned version."""
    if reply.status not in {OK, PARTIAL}:
        raise _refusal(reply, host)
    etag = reply.headers.get("ETag")
    if location.version is not None and etag is not None and not same_etag(etag, location.version):
        raise BlobChanged(f"{host} now has another version (ETag {etag}, pinned {location.version})")
    if reply.status == OK:
        _check_whole(reply, host, wanted)
    else:
        _check_partial(reply, host, wanted)


def _check_whole(reply: Reply, host: str, wanted: Wanted) -> None:
    """Accept a 200, the whole object, only if it is as long as ours and not encoded."""
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        raise LazyfsError(
            f"{host} ignores Range and compresses", "serve the weights without Content-Encoding"
        )
    if reply.length is not None and reply.length != wanted.size_bytes:
        raise BlobChanged(f"{host} has {reply.length} bytes now; {wanted.size_bytes} were pinned")


def _check_partial(reply: Reply, host: str, wanted: Wanted) -> None:
    found = _CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
    if found is None:
        raise BadResponse(f"{host} sent a part without a proper Content-Range")
    if found[3] not in {"*", str(wanted.size_bytes)}:
        raise BlobChanged(f"{host} has {found[3]} bytes now; {wanted.size_bytes} were pinned")
    if (int(found[1]), int(found[2]) + 1) != (wanted.span.start, wanted.span.stop):
        raise BadResponse(f"{host} sent another range than the one asked for")
    if reply.length not in {None, wanted.span.size_bytes}:
        raise BadResponse(f"{host} sent {reply.length} bytes for a range of {wanted.span.size_bytes}")


def _receive(
    reply: Reply, host: str, wanted: Wanted, into: memoryview, landed: Callable[[int], None]
) -> None:
    """Read the body. Of a whole object, what lies before the range is read over, into the same buffer."""
    skip = wanted.span.start if reply.status == OK else 0
    while skip:
        got = reply.readinto(into[: min(skip, len(into))])
        if not got:
            raise BadResponse(f"{host} ended the body before the range began")
        skip -= got
    got = reply.readinto(into, landed)
    if got != len(into):
        raise BadResponse(f"{host} ended the body {len(into) - got} bytes early")
    if reply.status == PARTIAL:
        reply.expect_end()


def _refusal(reply: Reply, host: str) -> LazyfsError:
    """Return the error that an unsuccessful reply means."""
    status, code = reply.status, _error_code(reply)
    said = f"{host} answered {status}{f' ({code})' if code else ''}"
    if code == "RequestTimeTooSkewed":
        return AccessDenied(said, "correct this machine's clock")
    if status in _REFUSED:
        return LocationRefused(said, "the credentials may not read it, or no longer")
    if status in _GONE:
        return BlobChanged(said, "the object was replaced or deleted; mount again to see what is there now")
    if status in _THROTTLED:
        return SourceThrottled(said, retry_after_s=retry_after_s(reply.headers.get("Retry-After", "")))
    if status >= 500 or status == 408:  # noqa: PLR2004
        return SourceUnavailable(said)
    return AccessDenied(said)


def _error_code(reply: Reply) -> str:
    """Return the `<Code>` of an S3 error document, if the body is one."""
    try:
        found = re.search(r"<Code>([A-Za-z0-9]{1,64})</Code>", reply.text())
    except SourceUnavailable:
        return ""
    return found[1] if found else ""


def retry_after_s(text: str) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None for neither."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
