"""`s3://bucket[/prefix]`: S3 and everything that speaks it.

botocore finds the credentials (the standard AWS chain), lists and signs; the bytes are read by the transport
from presigned GETs, which carry If-Match or the VersionId, so that every range is of the pinned version.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

# Imported here although others use it: from two modules deeper, compiling its regular expressions crosses the
# end of a piece of CPython's stack of frames again and again, which cost `lazyfs ls` 25 of 250 ms.
import botocore.session  # noqa: F401

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location, margin_s
from lazyfs.core.origin import below, is_older
from lazyfs.core.publication import CONTENT_BYTES_MAX, Published, Unmet, same_object
from lazyfs.errors import AccessDenied, LazyfsError, SourceMissing, UsageError
from lazyfs.sources.base import Access
from lazyfs.sources.publications import apart, with_publication
from lazyfs.sources.s3_bucket import S3Bucket
from lazyfs.sources.s3_errors import incomplete
from lazyfs.sources.s3_listing import SIZE_BYTES_MAX, entries, etag_in, modified_ns
from lazyfs.sources.s3_place import place_at

EXPIRES_S = 3600
"""Life of a presigned GET, in seconds; less if the credentials end before."""
_ID, _ETAG = "id:", "etag:"


def connect(address: str, access: Access) -> "S3Source":
    """Return the source of an `s3://bucket/prefix` or `s3://bucket/key[?versionId=ID]` address.

    Raises:
        UsageError: when the address has no bucket.
        AccessDenied: when the AWS profile to use does not exist.

    """
    return S3Source(*address_of(address), access)


def address_of(address: str) -> tuple[str, str, str | None]:
    """Return bucket, key or prefix, and VersionId of an address.

    Raises:
        UsageError: when it has no bucket.

    """
    path, _, version_id = address.removeprefix("s3://").partition("?versionId=")
    bucket, _, prefix = path.partition("/")
    if not bucket:
        raise UsageError(f"{address} names no bucket", "write it like s3://bucket/prefix")
    return bucket, prefix, unquote(version_id) or None


def etag_of(blob: BlobRef) -> str:
    """Return the ETag of an object that was listed."""
    return blob.version.removeprefix(_ETAG)


def same(claim: Published, blob: BlobRef) -> bool | None:
    """Tell whether an object that was listed is the one a publication speaks of; see `same_object`."""
    return same_object(claim, etag_of(blob))


class S3Source:
    """The objects below a prefix, or one object."""

    def __init__(self, bucket: str, prefix: str, version_id: str | None, access: Access) -> None:
        self._key = prefix
        self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._version_id = version_id
        self.bucket = S3Bucket(bucket, access)
        self._place: str | None = None
        self._unmet = Unmet()
        self._given: dict[str, tuple[float, Location]] = {}
        """The last location of each blob, by origin, and when it was given."""

    def list(self) -> Iterator[BlobRef]:
        """Yield every object below the prefix, or the one object the address names; see `Source.list`."""
        if self._version_id is not None:
            yield self._head()
            return
        try:
            published, blobs = apart(list(self.below()))
        except AccessDenied as error:
            if error.retryable:
                raise
            # Listing may be denied where reading one object is not.
            try:
                alone = self._head()
            except LazyfsError:
                alone = None
            if alone is None:
                raise
            yield alone
            return
        if published is not None:
            blobs, self._unmet = with_publication(blobs, lambda: self.read(published), same)
        yield from blobs or [self._head()]

    def unmet(self) -> Unmet:
        """See `Claimed.unmet`."""
        return self._unmet

    def key(self, blob: BlobRef) -> str:
        """Return the key of an object that was listed.

        Raises:
            OriginMismatch: when it was listed elsewhere.

        """
        return below(self.renamed(blob).origin, self.place)

    @property
    def place(self) -> str:
        """Where the objects of the bucket are really asked for: what the origin of each begins with.

        Raises:
            LazyfsError: when there are no credentials to ask with.

        """
        if self._place is None:
            self._place = self.bucket.place
        return self._place

    def renamed(self, blob: BlobRef) -> BlobRef:
        """Return a blob that an older version listed with its origin as it is now; see `Renaming`."""
        if not is_older(blob.origin):
            return blob
        key = below(blob.origin, self.bucket.older_place)
        return replace(blob, origin=self.place + key)

    def read(self, blob: BlobRef) -> bytes:
        """Return a publication's bytes, not many more than it may have.

        Raises:
            LazyfsError: when it cannot be read, or is no longer the version that was listed.

        """
        with self.bucket.translated():
            answer = self.bucket.ask("get_object", Key=self.key(blob), IfMatch=etag_of(blob))
            with closing(answer["Body"]) as body:
                content: bytes = body.read(CONTENT_BYTES_MAX + 1)
                return content

    def below(self) -> Iterator[BlobRef]:
        """Yield every object below the prefix, the publication too, whatever it says; there may be none."""
        for entry in entries(self.bucket, self._prefix):
            name, version = entry.key[len(self._prefix) :], _ETAG + entry.etag
            yield self._blob(entry.key, name, version, entry.size_bytes, entry.modified_ns)

    def _head(self) -> BlobRef:
        """Return the one object the address names."""
        missing = SourceMissing(
            f"there is nothing at s3://{self.bucket.name}/{self._key}",
            f"check the prefix; `lazyfs ls s3://{self.bucket.name}` shows what there is",
        )
        if not self._key or self._key.endswith("/"):
            raise missing
        pin: Any = {"Key": self._key}
        if self._version_id is not None:
            pin["VersionId"] = self._version_id
        try:
            head = self.bucket.ask("head_object", **pin)
        except SourceMissing:
            raise missing from None
        etag, version_id = etag_in(head), head.get("VersionId", "null")
        if etag is None:
            raise incomplete(repr(self._key), "ETag")
        if not 0 <= head.get("ContentLength", -1) <= SIZE_BYTES_MAX:
            raise incomplete(repr(self._key), "size")
        version = _ETAG + etag if version_id == "null" else _ID + version_id
        name = self._key.rpartition("/")[2]
        return self._blob(self._key, name, version, head["ContentLength"], modified_ns(head))

    def _blob(self, key: str, name: str, version: str, size_bytes: int, modified_ns: int) -> BlobRef:
        return BlobRef(name, self.place + key, version, size_bytes, modified_ns=modified_ns)

    def locate(self, blob: BlobRef) -> Location:
        """Return a presigned GET of the pinned version; see `Source.locate`.

        Who wants to know it again before it expires was refused there: the answer to a request of ours says
        why, and for credentials or a region that are others now that is mended.
        """
        key = self.key(blob)
        pin: dict[str, Any] = {"Key": key}
        etag = None
        if blob.version.startswith(_ID):
            pin["VersionId"] = blob.version.removeprefix(_ID)
        else:
            etag = blob.version.removeprefix(_ETAG)
        if self._was_refused(blob):
            self.bucket.probe(**pin)
        began_at_s = time.time()
        url, life_s = self.bucket.presigned(EXPIRES_S, **pin)
        # Whoever has found credentials anew may have found another endpoint beside them.
        below(self.renamed(blob).origin, place_at(url, self.bucket.name, key))
        # Not signed along: a header the signature does not name may be sent with any presigned GET.
        found = Location(url, {"If-Match": etag} if etag else {}, began_at_s + life_s, etag)
        self._given[blob.origin] = began_at_s, found
        return found

    def _was_refused(self, blob: BlobRef) -> bool:
        """Tell whether a location that was given out for a blob should still be good."""
        given = self._given.get(blob.origin)
        if given is None:
            return False
        given_at_s, location = given
        life_s = (location.expires_at_s or given_at_s) - given_at_s
        return location.fresh(time.time(), margin_s(life_s))

    def close(self) -> None:
        """Close the client's connections."""
        self.bucket.close()
