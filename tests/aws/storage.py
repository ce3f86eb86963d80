"""An S3 server that checks signatures, and departs from S3 in what it is told to: one thing at a time."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from tests.aws.asked import Answer, Request, Server
from tests.aws.signing import Keys, Refused

BUCKET = "models"
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
Refuse = Callable[[Request], Refused | None]


@dataclass(frozen=True)
class Departure:
    """How listings, and what is said of an object, depart from S3's."""

    first_version: bool = False
    """`list-type` means nothing to it."""
    next_marker: bool = True
    """A listing of the first version names the marker to go on with."""
    marker: bool = True
    """It goes on after the marker; else it begins again."""
    token: str = "right"
    """What a truncated page has for a token: right, none, same (and the same page), circle (two pages by
    turns, with new tokens), empty (new tokens, and nothing listed)."""
    untruncated: bool = False
    """Pages do not say whether they are the last."""
    truncated_as: str = "true"
    """What a page says of being truncated that is."""
    uncounted: int = 0
    """So many of the objects that a page counts are not on it."""
    etag: str | None = None
    """The ETag of every object."""
    refusal_as: str = "<Error>{}</Error>"
    """The document of a refusal, around what it says."""
    endless: bool = False
    """There is always another page, with new keys."""
    reversed: bool = False
    """Keys are listed backward."""
    without: tuple[str, ...] = ()
    """Elements a listing leaves out of its entries."""
    head_without: tuple[str, ...] = ()
    """Headers the answer to HEAD, and to GET, leaves out."""
    raw: bytes | None = None
    """What is sent for any listing but the first."""


class Storage(Server):
    """Objects of one bucket, by key."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens = count()
        self.begin(Keys())

    def begin(self, keys: Keys) -> None:
        """Be as new: without objects, and right in all."""
        self.requests.clear()
        self.keys = keys
        self.region = "us-east-1"
        self.page = 1000
        self.objects: dict[str, bytes] = {}
        self.departure = Departure()
        self.refuse: Refuse = lambda _request: None
        """Refuses what is signed well."""
        self.refused: list[Refused] = []

    @property
    def listings(self) -> list[Request]:
        return [one for one in self.requests if one.method == "GET" and one.url.path == f"/{BUCKET}"]

    @property
    def gets(self) -> list[Request]:
        return [
            one for one in self.requests if one.method == "GET" and one.url.path.startswith(f"/{BUCKET}/")
        ]

    def answer(self, request: Request) -> Answer:
        refused = self.keys.refuse(request, self.region) or self.refuse(request)
        if refused is not None:
            self.refused.append(refused)
            return error(refused, self.departure.refusal_as)
        bucket, _, key = unquote(request.url.path).lstrip("/").partition("/")
        if bucket != BUCKET:
            return error(Refused(404, "NoSuchBucket"))
        return self._object(request, key) if key else self._listing(request)

    def _object(self, request: Request, key: str) -> Answer:
        content = self.objects.get(key)
        if content is None:
            return error(Refused(404, "NoSuchKey"))
        etag = self.departure.etag or f'"{hashlib.md5(content).hexdigest()}"'
        if request.headers.get("if-match", etag) != etag:
            return error(Refused(412, "PreconditionFailed"))
        said = {"ETag": etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Accept-Ranges": "bytes"}
        status, body = 200, content
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if span is not None:
            start, stop = int(span[1]), min(int(span[2]) + 1, len(content))
            if start >= len(content):
                return error(Refused(416, "InvalidRange"))
            status, body = 206, content[start:stop]
            said["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        said = {name: text for name, text in said.items() if name not in self.departure.head_without}
        return Answer(status, body, said)

    def _listing(self, request: Request) -> Answer:
        how, query = self.departure, request.query
        if how.raw is not None and len(self.listings) > 1:
            return Answer(200, how.raw, {"Content-Type": "application/xml"})
        second = query.get("list-type") == "2" and not how.first_version
        prefix = query.get("prefix", "")
        keys = sorted((key for key in self.objects if key.startswith(prefix)), reverse=how.reversed)
        after = query.get("continuation-token", "").partition(":")[2] if second else query.get("marker", "")
        if after and how.marker and not how.endless:
            keys = keys[keys.index(after) + 1 :]
        listed = keys[: self.page]
        if how.endless:
            number = next(self._tokens)
            listed = [f"{prefix}{number:06d}-{index:04d}" for index in range(self.page)]
        truncated = len(listed) < len(keys) or how.endless
        last = listed[-1] if listed else ""
        if how.token == "same":
            truncated, last = True, ""
        elif how.token in {"circle", "empty"}:
            truncated, last = True, "" if after else last
        if how.token == "empty":
            listed = []
        return self._page(listed, prefix, last, second=second, truncated=truncated)

    def _page(self, listed: list[str], prefix: str, last: str, *, second: bool, truncated: bool) -> Answer:
        how = self.departure
        parts = [f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{self.page}</MaxKeys>"]
        parts.append("<EncodingType>url</EncodingType>")
        if second:
            parts.append(f"<KeyCount>{len(listed) + how.uncounted}</KeyCount>")
        if not how.untruncated:
            parts.append(f"<IsTruncated>{how.truncated_as if truncated else 'false'}</IsTruncated>")
        number = 0 if how.token == "same" else next(self._tokens)
        if truncated and second and how.token != "none":
            parts.append(f"<NextContinuationToken>{number}:{escape(last)}</NextContinuationToken>")
        elif truncated and not second and how.next_marker:
            parts.append(f"<NextMarker>{quote(last)}</NextMarker>")
        parts += [self._entry(key) for key in listed]
        body = f"<ListBucketResult {_NAMESPACE}>{''.join(parts)}</ListBucketResult>"
        return Answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _entry(self, key: str) -> str:
        content = self.objects.get(key, b"")
        said = {
            "Key": quote(key), "LastModified": "2026-01-01T00:00:00.000Z",
            "ETag": escape(self.departure.etag or f'"{hashlib.md5(content).hexdigest()}"'),
            "Size": str(len(content)),
        }  # fmt: skip
        inner = "".join(
            f"<{name}>{text}</{name}>" for name, text in said.items() if name not in self.departure.without
        )
        return f"<Contents>{inner}</Contents>"


def error(refused: Refused, document: str = "<Error>{}</Error>") -> Answer:
    region = f"<Region>{refused.region}</Region>" if refused.region else ""
    body = document.format(f"<Code>{refused.code}</Code><Message>{refused.message}</Message>{region}")
    return Answer(refused.status, body.encode(), {"Content-Type": "application/xml"})
