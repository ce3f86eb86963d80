"""What a bucket lists: every page checked, so that part of a model is never taken for all of it.

Many servers speak S3, and leave out or misunderstand some of it. What S3 promises and this depends on:
"ListObjectsV2" and "ListObjects" in the Amazon S3 API reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lazyfs.errors import BadResponse, SourceMissing, UsageError
from lazyfs.sources.s3_bucket import S3Bucket
from lazyfs.sources.s3_errors import incomplete, not_s3

ENTRIES_MAX = 1_000_000
"""No model has so many files."""
SIZE_BYTES_MAX = 1 << 50
"""No store has an object so large (S3: 50 TB)."""
EMPTY_PAGES_MAX = 100
"""So many pages in a row may list nothing: S3 passes over what was deleted, a page at a time."""
HEADS = 8
"""So many objects are asked for at once of which a listing does not say enough."""
_LISTING = {"Name", "KeyCount", "Contents"}
"""One of these is in every listing, whoever's it is."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object: its key, what pins it, its size, and when it was modified."""

    key: str
    etag: str
    size_bytes: int
    modified_ns: int


def entries(bucket: S3Bucket, prefix: str) -> Iterator[ListedObject]:
    """Yield all objects below a prefix.

    Raises:
        SourceMissing: when the server lists what was not asked for.
        UsageError: when there are more than `ENTRIES_MAX`.
        BadResponse: when the listing goes in circles, or breaks off.
        LazyfsError: when it cannot be had.

    """
    count = 0
    for page in _pages(bucket, prefix):
        count += len(page)
        if count > ENTRIES_MAX:
            raise UsageError(
                f"s3://{bucket.name}/{prefix} has more than {ENTRIES_MAX} objects", "name a prefix with less"
            )
        for found in page:
            if not found["Key"].startswith(prefix):
                raise SourceMissing(
                    f"asked for s3://{bucket.name}/{prefix}, the server lists {found['Key']!r}",
                    "write the prefix as the server does, without doubled slashes",
                )
        yield from _complete(bucket, page)


def _pages(bucket: S3Bucket, prefix: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the new objects of each page.

    A server that breaks off without a token has taken the question for one by the first version of listing
    (older Ceph, Wasabi, DigitalOcean), which goes on after a key.
    """
    operation, where = "list_objects_v2", dict[str, Any]()
    seen, before = set[str](), set[str]()
    empty = 0
    while True:
        page = bucket.ask(operation, Prefix=prefix, **where)
        if not page.keys() & _LISTING:
            raise not_s3()
        found: list[dict[str, Any]] = page.get("Contents") or []
        if any(not one.get("Key") for one in found):
            raise incomplete("an object", "key")
        new = [one for one in found if one["Key"] not in before]
        yield new
        following = _following(page, found)
        if following is None:
            return
        empty = 0 if new else empty + 1
        operation, where = following
        here = {str(where), *(one["Key"] for one in new[:1])}
        if here & seen or (found and not new) or empty > EMPTY_PAGES_MAX:
            raise BadResponse(f"bucket {bucket.name} lists pages without end", "see what the server does")
        seen |= here
        before = {one["Key"] for one in found} or before


def _following(page: dict[str, Any], found: list[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """Return how to ask for the page after this one; None when it is the last."""
    token, marker = page.get("NextContinuationToken"), page.get("NextMarker")
    full = len(found) >= (page.get("MaxKeys") or 1000)
    # Who says how to go on has more, whatever it says of being truncated; and what a server of the first
    # version says of that, botocore does not read in an answer that it takes for one of the second.
    goes_on = found and (token or marker or (full and "KeyCount" not in page))
    if not page.get("IsTruncated", full) and not goes_on:
        if page.get("KeyCount", 0) > len(found):
            raise BadResponse(
                f"the server counts {page['KeyCount']} objects on a page, and lists {len(found)}",
                "see what the server does",
            )
        return None
    if token:
        return "list_objects_v2", {"ContinuationToken": token}
    keys = [one["Key"] for one in found]
    if not marker and keys != sorted(keys, key=str.encode):
        raise BadResponse(
            "the server breaks a listing off, and neither says how to go on nor lists in order",
            "use a server, or a version of it, that knows ListObjectsV2",
        )
    if not marker and not keys:
        raise BadResponse(
            "the server breaks a listing off, and does not say how to go on",
            "use a server, or a version of it, that knows ListObjectsV2",
        )
    return "list_objects", {"Marker": marker or keys[-1]}


def _complete(bucket: S3Bucket, page: list[dict[str, Any]]) -> Iterator[ListedObject]:
    """Yield the objects of a page; those of which it does not say enough are asked for, several at once."""
    lacking = [one for one in page if not etag_in(one) or one.get("Size") is None]
    heads: dict[str, dict[str, Any]] = {}
    if lacking:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - hardly any server needs it

        with ThreadPoolExecutor(HEADS, "head") as threads:
            answers = threads.map(lambda one: bucket.ask("head_object", Key=one["Key"]), lacking)
            heads = {one["Key"]: head for one, head in zip(lacking, answers, strict=True)}
    for one in page:
        head = heads.get(one["Key"], {})
        etag, size_bytes = etag_in(one) or etag_in(head), one.get("Size", head.get("ContentLength"))
        if one["Key"].endswith("/") and not size_bytes:
            continue  # a console's idea of a directory
        if etag is None:
            raise incomplete(repr(one["Key"]), "ETag")
        if size_bytes is None or not 0 <= size_bytes <= SIZE_BYTES_MAX:
            raise incomplete(repr(one["Key"]), "size")
        yield ListedObject(one["Key"], etag, size_bytes, modified_ns(one) or modified_ns(head))


def etag_in(said: dict[str, Any]) -> str | None:
    """Return what pins an object; None when nothing does, or it could not be sent along with a request."""
    found = said.get("ETag") or ""
    return found if found.removeprefix("W/").strip('"') and found.isascii() and found.isprintable() else None


def modified_ns(said: dict[str, Any]) -> int:
    """Return when an object was modified, in nanoseconds since the epoch; 0 when nobody says."""
    found = said.get("LastModified")
    return int(found.timestamp() * 1e9) if found else 0
