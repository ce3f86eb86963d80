"""What is wanted of an object, and whether a reply is that: each status code and header, decided once.

The bytes are taken only when the reply proves that they are the ones asked for: a 206 with exactly this
Content-Range, or a 200 that is the whole object; of the pinned version; of the right length.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location, comparable, same_etag
from lazyfs.core.ratelimit import wait_s
from lazyfs.core.s3_refusals import Passing, S3Refusal, parse
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
from lazyfs.transport.asking import Answer
from lazyfs.transport.connection import Reply

OK, PARTIAL = 200, 206
_LATER = "try again later, or with fewer --connections"
AGAIN = "mount or pull again to get what is there now"
_REFUSED = {400, 401, 403}
_GONE = {404, 410, 412, 416}
_MOVED = {404, 410}
_THROTTLED = {429, 503}
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect"}
"""S3's codes for a bucket of another region: without a Location, it has to be signed for there."""
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


def check(reply: Reply, host: str, location: Location, wanted: Wanted) -> None:
    """Raise unless this reply's body holds the wanted bytes of the pinned version."""
    if reply.status not in {OK, PARTIAL}:
        raise _of(location, reply.status, refusal(reply, host))
    _check_version(reply.headers, host, location)
    coding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    # Without a word from the source, a part may be of an object that is stored so.
    plain = location.codings is None and reply.status == PARTIAL
    if coding != "identity" and not plain and coding not in (location.codings or ()):
        raise LazyfsError(
            f"{host} compresses what it sends ({coding[:20]!r}) though it was asked not to",
            "serve the weights without Content-Encoding",
        )
    if reply.status == PARTIAL:
        _check_partial(reply, host, wanted)
    elif reply.length is not None and reply.length != wanted.size_bytes:
        if not _vouched(reply.headers, location):
            raise BadResponse(
                f"{host} sent {reply.length} bytes that are not the object, of {wanted.size_bytes}"
            )
        raise BlobChanged(f"{host} has {reply.length} bytes now; {wanted.size_bytes} were pinned", AGAIN)


def _vouched(headers: Mapping[str, str], location: Location) -> bool:
    """Tell whether a reply that passed `_check_version` says of what it is: a proxy's page does not."""
    pins = (("ETag", location.version), ("Last-Modified", location.modified))
    return any(pinned is not None and name in headers for name, pinned in pins)


def confirm(answer: Answer, location: Location, size_bytes: int) -> None:
    """Raise unless the object is still the pinned version, by what its server says of it now."""
    host = answer.url.netloc.rpartition("@")[2]
    if answer.status not in {OK, PARTIAL}:
        raise _of(location, answer.status, refused(answer.status, answer.headers, host))
    _check_version(answer.headers, host, location)
    if answer.size_bytes not in {None, size_bytes}:
        raise BlobChanged(f"{host} has {answer.size_bytes} bytes now; {size_bytes} were pinned", AGAIN)


def _of(location: Location, status: int, error: LazyfsError) -> LazyfsError:
    """Return what a refusal means of this location."""
    moved = location.redirected and status in _MOVED
    return LocationRefused(error.cause, error.cure) if moved else error


def _check_version(headers: Mapping[str, str], host: str, location: Location) -> None:
    """Raise unless a reply is of the pinned version, as far as it says and as the location wants."""
    for name, pinned in (("ETag", location.version), ("Last-Modified", location.modified)):
        if pinned is None:
            continue
        found = headers.get(name)
        if found is None:
            if location.proven:
                raise BadResponse(f"{host} sent a reply without the {name} by which the file is pinned")
        elif not (_same_etag(found, pinned, location) if name == "ETag" else found == pinned):
            raise BlobChanged(f"{host} now has another version ({name} {found}, pinned {pinned})", AGAIN)


def _same_etag(found: str, pinned: str, location: Location) -> bool:
    return same_etag(found, pinned) or (location.loose and not comparable(found, pinned))


def _check_partial(reply: Reply, host: str, wanted: Wanted) -> None:
    found = _CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
    if found is None:
        raise BadResponse(f"{host} sent a part without a proper Content-Range")
    if found[3] not in {"*", str(wanted.size_bytes)}:
        raise BlobChanged(f"{host} has {found[3]} bytes now; {wanted.size_bytes} were pinned", AGAIN)
    if (int(found[1]), int(found[2]) + 1) != (wanted.span.start, wanted.span.stop):
        raise BadResponse(f"{host} sent another range than the one asked for")
    if reply.length not in {None, wanted.span.size_bytes}:
        raise BadResponse(f"{host} sent {reply.length} bytes for a range of {wanted.span.size_bytes}")


def refusal(reply: Reply, host: str) -> LazyfsError:
    """Return the error that an unsuccessful reply means."""
    return refused(reply.status, reply.headers, host, _said(reply))


def refused(status: int, headers: Mapping[str, str], host: str, said: S3Refusal | None = None) -> LazyfsError:
    """Return the error that an unsuccessful status means; `said` is what an S3 error document says.

    What the document says of a refusal that passes comes first: S3 sends such with 400 and 403, too.
    """
    code = said.code if said is not None else ""
    cause = f"{host} answered {status}{f' ({code})' if code else ''}"
    passing = said.passing if said is not None else None
    if passing is not None:
        return _passing(passing, cause, headers)
    if status in _REFUSED or code in _ELSEWHERE:
        return LocationRefused(cause, "the credentials may not read it, or no longer")
    if status in _GONE:
        return BlobChanged(cause, f"the object was replaced or deleted; {AGAIN}")
    if status in _THROTTLED:
        return SourceThrottled(cause, _LATER, wait_s(headers, time.time()))
    if status >= 500 or status == 408:  # noqa: PLR2004
        return SourceUnavailable(cause, "try again later")
    # Neither the bytes nor a refusal: an interim answer, or one to a question that was not asked (304).
    cure = "check the address"
    return BadResponse(cause, cure) if status < 400 else AccessDenied(cause, cure)  # noqa: PLR2004


def _passing(why: Passing, cause: str, headers: Mapping[str, str]) -> LazyfsError:
    """Return the error for a refusal that passes."""
    if why is Passing.THROTTLED:
        return SourceThrottled(cause, _LATER, wait_s(headers, time.time()))
    if why is Passing.TROUBLE:
        return SourceUnavailable(cause, "try again later")
    if why is Passing.EXPIRED:
        return LocationLapsed(cause, "the credentials have expired: renew them")
    return LocationLapsed(cause, "correct this machine's clock")


def _said(reply: Reply) -> S3Refusal:
    """Return what an S3 error document says, if the body is one."""
    try:
        return parse(reply.text())
    except SourceUnavailable:
        return S3Refusal()
