"""`s3://bucket[/prefix]`: S3 and everything that speaks it.

botocore finds the credentials (the standard AWS chain), lists and signs; the bytes are read by the transport
from presigned GETs, which carry If-Match or the VersionId, so that every range is of the pinned version.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import botocore.config
import botocore.loaders
import botocore.session
from botocore import UNSIGNED

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location
from lazyfs.core.publication import CONTENT_BYTES_MAX, Published, Unmet, same_object
from lazyfs.errors import AccessDenied, LazyfsError, SourceMissing, UsageError
from lazyfs.sources.base import Access
from lazyfs.sources.publications import apart, with_publication
from lazyfs.sources.s3_errors import BOTOCORE_RAISES, NOT_RENEWED, not_renewed, not_s3, translate
from lazyfs.transport.route import admit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EXPIRES_S = 3600
"""Life of a presigned GET. Temporary credentials may end it earlier; then a 403 renews it."""
_ID, _ETAG = "id:", "etag:"
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn")


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


class _OnlyS3(botocore.loaders.Loader):
    """Finds the S3 model without listing the directories of all 430 services: 0.1 s when cold."""

    def __init__(self, data_path: str | None) -> None:
        super().__init__(data_path.split(os.pathsep) if data_path else None)

    def list_available_services(self, type_name: str) -> list[str]:
        """Return the one service there is to us."""
        del type_name
        return ["s3"]


def client(access: Access, region: str | None = None, more: dict[str, Any] | None = None) -> "S3Client":
    """Return an S3 client by the standard AWS chain; `access` overrides what the environment says.

    `more` overrides how it sends requests.
    """
    session = botocore.session.get_session()
    session.register_component("data_loader", _OnlyS3(session.get_config_variable("data_path")))
    configured = session.get_scoped_config()
    style: Any = access.addressing_style or (configured.get("s3") or {}).get("addressing_style")
    if style is None:
        # For AWS "auto" signs for the global endpoint, which redirects, which breaks the signature. Servers
        # of one's own all know path style, few the other.
        style = "path" if _has_endpoint(access, configured) else "virtual"
    settings: dict[str, Any] = {
        "signature_version": UNSIGNED if access.anonymous else "s3v4",
        "s3": {"addressing_style": style},
        "connect_timeout": 5,
        "read_timeout": 20,
        "retries": {"mode": "standard", "total_max_attempts": 3},
    }
    config = botocore.config.Config(**settings | (more or {}))
    region = region or session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"
    made = session.create_client("s3", region_name=region, endpoint_url=access.endpoint_url, config=config)
    # Also where it is redirected to. Its credentials are another client's: they may well come from 169.254.*.
    made.meta.events.register("before-send.s3", _admitted)
    made.get_paginator("list_objects_v2")  # read now: as `--user`, this process may not be able to later
    return cast("S3Client", made)


def _admitted(request: Any, **_: Any) -> None:
    """Let a request of the client through, if a source may be where it goes."""
    admit(request.url)


def _has_endpoint(access: Access, configured: dict[str, Any]) -> bool:
    """Tell whether some endpoint other than AWS is set, by whatever means botocore knows."""
    variables = (os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    return any((access.endpoint_url, *variables, configured.get("endpoint_url"), configured.get("services")))


def etag_of(blob: BlobRef) -> str:
    """Return the ETag of an object that was listed."""
    return blob.version.removeprefix(_ETAG)


def same(claim: Published, blob: BlobRef) -> bool | None:
    """Tell whether an object that was listed is the one a publication speaks of; see `same_object`."""
    return same_object(claim, etag_of(blob))


class S3Source:
    """The objects below a prefix, or one object."""

    def __init__(self, bucket: str, prefix: str, version_id: str | None, access: Access) -> None:
        self._bucket = bucket
        self._key = prefix
        self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._version_id = version_id
        self._access = access
        with self._translated():
            self._client = client(access)
        netloc = urlsplit(self._client.meta.endpoint_url).netloc.rpartition("@")[2]
        place = "aws" if netloc.endswith(AWS_DOMAINS) else netloc
        self._origin = f"s3://{place}/{bucket}/"
        self._unmet = Unmet()

    def list(self) -> Iterator[BlobRef]:
        """Yield every object below the prefix, or the one object the address names; see `Source.list`."""
        if self._version_id is not None:
            yield self._head()
            return
        try:
            published, blobs = apart(list(self.below()))
        except AccessDenied:
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

    @property
    def region(self) -> str:
        """Where the bucket is, once it was listed."""
        return self._client.meta.region_name

    def key(self, blob: BlobRef) -> str:
        """Return the key of an object that was listed."""
        return blob.origin[len(self._origin) :]

    def read(self, blob: BlobRef) -> bytes:
        """Return a publication's bytes, not many more than it may have.

        Raises:
            LazyfsError: when it cannot be read, or is no longer the version that was listed.

        """
        with self._translated():
            answer = self._client.get_object(Bucket=self._bucket, Key=self.key(blob), IfMatch=etag_of(blob))
            with closing(answer["Body"]) as body:
                return body.read(CONTENT_BYTES_MAX + 1)

    def below(self) -> Iterator[BlobRef]:
        """Yield every object below the prefix, the publication too, whatever it says; there may be none."""
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for number, page in enumerate(pages):
                if number == 0:
                    if not page.keys() & {"Name", "KeyCount", "Contents"}:
                        raise not_s3()
                    self._move_to(page)
                for entry in page.get("Contents", []):
                    key, size = entry["Key"], entry["Size"]
                    if not key.startswith(self._prefix):
                        raise SourceMissing(
                            f"asked for s3://{self._bucket}/{self._prefix}, the server lists {key!r}",
                            "write the prefix as the server does, without doubled slashes",
                        )
                    if key.endswith("/") and not size:
                        continue  # a console's idea of a directory
                    modified_ns = int(entry["LastModified"].timestamp() * 1e9)
                    yield self._blob(key, key[len(self._prefix) :], _ETAG + entry["ETag"], size, modified_ns)

    def _move_to(self, page: Any) -> None:
        """Sign for the bucket's own region; listing was redirected there, a presigned GET would not be."""
        headers = page.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region")
        if region and region != self._client.meta.region_name and "//aws/" in self._origin:
            self._client = client(self._access, region)

    def _head(self) -> BlobRef:
        """Return the one object the address names."""
        missing = SourceMissing(
            f"there is nothing at s3://{self._bucket}/{self._key}",
            f"check the prefix; `lazyfs ls s3://{self._bucket}` shows what there is",
        )
        if not self._key or self._key.endswith("/"):
            raise missing
        pin: Any = {"Bucket": self._bucket, "Key": self._key}
        if self._version_id is not None:
            pin["VersionId"] = self._version_id
        try:
            with self._translated():
                head = self._client.head_object(**pin)
        except SourceMissing:
            raise missing from None
        if "ETag" not in head:
            raise not_s3()
        version_id = head.get("VersionId", "null")
        version = _ETAG + head["ETag"] if version_id == "null" else _ID + version_id
        modified_ns = int(head["LastModified"].timestamp() * 1e9)
        name = self._key.rpartition("/")[2]
        return self._blob(self._key, name, version, head["ContentLength"], modified_ns)

    def _blob(self, key: str, name: str, version: str, size_bytes: int, modified_ns: int) -> BlobRef:
        return BlobRef(name, self._origin + key, version, size_bytes, modified_ns=modified_ns)

    def locate(self, blob: BlobRef) -> Location:
        """Return a presigned GET of the pinned version; see `Source.locate`."""
        wanted: dict[str, Any] = {"Bucket": self._bucket, "Key": self.key(blob)}
        etag = None
        if blob.version.startswith(_ID):
            wanted["VersionId"] = blob.version.removeprefix(_ID)
        else:
            etag = blob.version.removeprefix(_ETAG)
        expires_at_s = time.time() + EXPIRES_S
        with self._translated():
            try:
                url = self._client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=EXPIRES_S)
            except NOT_RENEWED as error:
                raise not_renewed(error) from None
        # Not signed along: a header the signature does not name may be sent with any presigned GET.
        return Location(url, {"If-Match": etag} if etag else {}, expires_at_s, etag)

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn botocore's exceptions into ours, once."""
        try:
            yield
        except BOTOCORE_RAISES as error:
            raise translate(error, self._bucket) from None
