"""Publishing to S3: each file is read once, hashed on the way, and sent in parts, several at a time."""

import base64
import hashlib
import logging
import threading
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lazyfs.core.blob import BlobRef
from lazyfs.core.parts import PART_BYTES, parts
from lazyfs.core.publication import FILE_NAME, Published
from lazyfs.errors import LazyfsError, SourceUnavailable, UsageError
from lazyfs.sources.base import Access
from lazyfs.sources.destination import Check, Reading, Told
from lazyfs.sources.publications import apart
from lazyfs.sources.s3 import S3Source, address_of, etag_of, same
from lazyfs.sources.s3_errors import required
from lazyfs.sources.s3_multipart import Body, Uploads, crc32_text, is_md5, sha256_text

log = logging.getLogger(__name__)

LANES = 16
"""Parts on their way at once: S3 takes some 85 MB/s on each connection."""
KEY_BYTES_MAX = 1024
IN_FLIGHT_BYTES = LANES * PART_BYTES
_SETTINGS: dict[str, Any] = {
    "max_pool_connections": LANES + 4,
    "read_timeout": 120,  # completing an object of thousands of parts takes a while
    "retries": {"mode": "standard", "total_max_attempts": 6},
    # Its own would be trailers, which many servers do not know; ours are headers.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


def connect_to(address: str, access: Access) -> "S3Destination":
    """Return the destination of an `s3://bucket/prefix` address.

    Raises:
        UsageError: when the address has no bucket, or names a version.

    """
    bucket, prefix, version_id = address_of(address)
    if version_id is not None:
        raise UsageError(f"{address} names one version", "publish to a prefix, like s3://bucket/llama")
    return S3Destination(bucket, prefix.rstrip("/"), access)


class S3Destination:
    """The objects below a prefix."""

    def __init__(self, bucket: str, prefix: str, access: Access) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._source = S3Source(bucket, prefix, None, access)
        self._publication: BlobRef | None = None
        self.client: Any = None
        """What sends; it is there once the destination was listed."""
        self._stopped = threading.Event()
        self._room = Room(IN_FLIGHT_BYTES)
        self._lanes = ThreadPoolExecutor(LANES, "part")

    def list(self) -> list[BlobRef]:
        """See `Destination.list`."""
        self._publication, found = apart(list(self._source.below()))
        if self.client is None:  # the bucket's region is known now
            self.client = self._source.bucket.client(_SETTINGS)
            self._uploads = Uploads(self.client, self._bucket, self._stopped)
        return found

    def read_publication(self) -> bytes | None:
        """See `Destination.read_publication`."""
        return None if self._publication is None else self._source.read(self._publication)

    def write_publication(self, content: bytes) -> None:
        """See `Destination.write_publication`."""
        where: dict[str, str] = {"Bucket": self._bucket, "Key": self._prefix + FILE_NAME}
        with self._source.bucket.translated():
            self._uploads.with_checksum(
                lambda more: self.client.put_object(
                    **where, Body=content, ContentType="application/json", **more
                ),
                {"ChecksumSHA256": sha256_text(content)},  # buckets with object lock insist on one
            )

    def same(self, claim: Published, held: BlobRef) -> bool | None:
        """See `Destination.same`."""
        return same(claim, held)

    def prepare(self, files: Sequence[BlobRef]) -> None:
        """See `Destination.prepare`."""
        for file in files:
            parts(file.size_bytes)
            if not _is_key(self._prefix + file.name):
                raise UsageError(f"{file.name!r} cannot be the name of an object", "rename the file")
        try:
            with self._source.bucket.translated():
                self._uploads.take_up(self._prefix, {self._prefix + file.name for file in files})
        except SourceUnavailable:
            raise
        except LazyfsError as error:  # it is a right of its own, and some servers do not have it
            log.warning("publish_cannot_resume error=%r", str(error))

    @property
    def check(self) -> Check:
        """See `Destination.check`."""
        return self._uploads.check

    def digest_if_same(self, path: Path, file: BlobRef, held: BlobRef) -> str | None:
        """See `Destination.digest_if_same`."""
        with self._source.bucket.translated():
            head: dict[str, Any] = self.client.head_object(
                Bucket=self._bucket, Key=self._source.key(held), ChecksumMode="ENABLED", IfMatch=etag_of(held)
            )
        whole = head.get("ChecksumType") != "COMPOSITE"
        sha256, crc32 = (
            head.get(name, "-") if whole else "-" for name in ("ChecksumSHA256", "ChecksumCRC32")
        )
        md5 = head["ETag"].strip('"') if is_md5(head) else None
        if "-" in sha256 and "-" in crc32 and md5 is None:
            return None  # nothing to compare with
        reading, crc, md5_hash = Reading(path, file), 0, hashlib.md5(usedforsecurity=False)
        for piece in reading.pieces(PART_BYTES):
            crc = zlib.crc32(piece, crc)
            if md5 is not None:
                md5_hash.update(piece)
        ours = (
            base64.b64encode(bytes.fromhex(reading.sha256)).decode(),
            crc32_text(crc),
            md5_hash.hexdigest(),
        )
        theirs = (sha256, crc32, md5)
        compared = [one == other for one, other in zip(ours, theirs, strict=True) if other not in {"-", None}]
        return reading.sha256 if all(compared) else None

    def published(self, file: BlobRef, held: BlobRef, sha256: str) -> Published:
        """See `Destination.published`."""
        return Published(file.name, file.size_bytes, sha256, etag_of(held), file.modified_ns)

    def send(self, path: Path, file: BlobRef, told: Told) -> Published:
        """See `Destination.send`."""
        reading = Reading(path, file)
        with self._source.bucket.translated():
            sender = self._whole if file.size_bytes <= PART_BYTES else self._in_parts
            etag = sender(self._prefix + file.name, reading, file.size_bytes, told)
        return Published(file.name, file.size_bytes, reading.sha256, etag, file.modified_ns)

    def _whole(self, key: str, reading: Reading, _size_bytes: int, told: Told) -> str:
        content = b"".join(reading.pieces(PART_BYTES))
        checksum = sha256_text(content)
        answer = self._uploads.with_checksum(
            lambda more: self.client.put_object(
                Bucket=self._bucket, Key=key, Body=Body(content, self._stopped), **more
            ),
            {"ChecksumSHA256": checksum},
        )
        self._uploads.compare(answer, "ChecksumSHA256", checksum, content)
        told(len(content), True)
        etag: str = required(answer, "ETag", repr(key))
        return etag

    def _in_parts(self, key: str, reading: Reading, size_bytes: int, told: Told) -> str:
        upload = self._uploads.begin(key)
        grid, crc = parts(size_bytes), 0
        flying: deque[Future[dict[str, Any]]] = deque()
        landed: list[dict[str, Any]] = []

        def fly(number: int, content: bytes) -> dict[str, Any]:
            try:
                return self._uploads.send(upload, number, content, told)
            finally:
                self._room.give(len(content))

        for index, content in enumerate(reading.pieces(grid.block_bytes)):
            crc = zlib.crc32(content, crc)
            while flying and flying[0].done():
                landed.append(flying.popleft().result())
            self._room.take(len(content))
            flying.append(self._lanes.submit(fly, index + 1, content))
        landed += [future.result() for future in flying]
        return self._uploads.complete(upload, landed, crc)

    def stop(self) -> None:
        """See `Destination.stop`."""
        self._stopped.set()

    def close(self, *, resume: bool) -> None:
        """See `Destination.close`; call it when no `send` is at work any more."""
        self._lanes.shutdown(cancel_futures=True)
        try:
            if self.client is not None and not resume:
                with self._source.bucket.translated():
                    self._uploads.abort_all()
        finally:
            self._source.close()
            if self.client is not None:
                self.client.close()


class Room:
    """Memory for parts on their way; one that is larger than all of it goes alone."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._taken_bytes = 0
        self._changed = threading.Condition()

    def take(self, size_bytes: int) -> None:
        """Wait until there is room."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._taken_bytes or self._taken_bytes + size_bytes <= self._size_bytes
            )
            self._taken_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Give it back."""
        with self._changed:
            self._taken_bytes -= size_bytes
            self._changed.notify_all()


def _is_key(text: str) -> bool:
    try:
        return len(text.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:
        return False
