"""Multipart uploads: begun or taken up again, part by part with checksums, completed or aborted.

Every part is sent with its CRC32, and the whole object completed with its own: servers that know checksums
compare both, and keep the latter. Of others the ETag of a part is its MD5, which is compared here. What a
listing says of a part counts by the same rule, when an upload is gone on with.
"""

import base64
import hashlib
import io
import re
import threading
import zlib
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from lazyfs.errors import BadResponse
from lazyfs.sources.destination import Check, Stopped
from lazyfs.sources.s3_errors import required

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NOT_KNOWN = {"NotImplemented", "InvalidRequest", "InvalidArgument", "501"}
"""What servers answer that refuse headers they do not know."""
_SENT_AT_ONCE = 1 << 20


class Body(io.BytesIO):
    """What is sent; ends a request from within when `stopped` is set.

    Gives more at once than HTTP clients ask for: they ask for 16 KiB, which is a lot of Python for one part.
    """

    def __init__(self, content: bytes, stopped: threading.Event) -> None:
        super().__init__(content)
        self._stopped = stopped

    def read(self, size: int | None = -1, /) -> bytes:
        """Return what comes next."""
        if self._stopped.is_set():
            raise Stopped
        return super().read(max(size, _SENT_AT_ONCE) if size is not None and size > 0 else size)


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload, and by number what the server has of it already, as it lists it."""

    key: str
    upload_id: str
    parts: dict[int, dict[str, Any]] = field(default_factory=dict)


class Uploads:
    """The open uploads of ours in a bucket."""

    def __init__(self, client: "S3Client", bucket: str, stopped: threading.Event) -> None:
        self._client: Any = client
        self._bucket = bucket
        self._stopped = stopped
        self._lock = threading.Lock()
        self._left: dict[str, str] = {}
        self._open: dict[str, str] = {}
        self._weakest = Check.CHECKSUM
        self._checksums = True

    @property
    def check(self) -> Check:
        """See `Destination.check`."""
        return self._weakest

    def take_up(self, prefix: str, keys: Container[str]) -> None:
        """Look for uploads of `keys` that were broken off; of several for one key take the last."""
        after = {"KeyMarker": "Key", "UploadIdMarker": "UploadId"}
        found = [
            upload
            for upload in self._all("list_multipart_uploads", "Uploads", after, Prefix=prefix)
            if upload.get("UploadId") and upload.get("Key", "") in keys
        ]
        for upload in sorted(found, key=lambda upload: str(upload.get("Initiated", ""))):
            earlier = self._left.pop(upload["Key"], None)
            if earlier is not None:
                self.abort(upload["Key"], earlier)
            if (
                upload.get("ChecksumAlgorithm", "CRC32") == "CRC32"
                and upload.get("ChecksumType") != "COMPOSITE"
            ):
                self._left[upload["Key"]] = upload["UploadId"]
            else:  # somebody else's, who meant to complete it in another way
                self.abort(upload["Key"], upload["UploadId"])

    def begin(self, key: str) -> Upload:
        """Go on with an upload of `key`, or begin one."""
        with self._lock:
            upload_id = self._left.pop(key, None)
        if upload_id is not None:
            with self._lock:
                self._open[key] = upload_id
            return Upload(key, upload_id, self._listed(key, upload_id))
        made = self.with_checksum(
            lambda checksum: self._client.create_multipart_upload(Bucket=self._bucket, Key=key, **checksum),
            {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"},
        )
        with self._lock:
            self._open[key] = required(made, "UploadId", f"the upload of {key!r}")
        return Upload(key, made["UploadId"])

    def _listed(self, key: str, upload_id: str) -> dict[int, dict[str, Any]]:
        after = {"PartNumberMarker": "PartNumber"}
        found = self._all("list_parts", "Parts", after, Key=key, UploadId=upload_id)
        return {part["PartNumber"]: part for part in found if part.get("PartNumber")}

    def _all(
        self, operation: str, items: str, after: Mapping[str, str], **where: Any
    ) -> list[dict[str, Any]]:
        """Return all items of a listing; a page goes on `after` what it says, else after its last item.

        A page that brings nothing new is the last: what is missing is sent once more, no byte is wrong.
        """
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        while True:
            page = getattr(self._client, operation)(Bucket=self._bucket, **where)
            new = {tuple(map(item.get, after.values())): item for item in page.get(items) or []}
            if not page.get("IsTruncated") or not new.keys() - found.keys():
                return [*(found | new).values()]
            found |= new
            last = [*new.values()][-1]
            for marker, name in after.items():
                where[marker] = page.get(f"Next{marker}") or last.get(name)

    def send(
        self, upload: Upload, number: int, content: bytes, told: Callable[[int, bool], None]
    ) -> dict[str, Any]:
        """Send a part, unless the server has it; return what completing wants to know of it."""
        crc = crc32_text(zlib.crc32(content))
        listed = upload.parts.get(number)
        if (
            listed is not None
            and listed.get("Size") == len(content)
            and _matches(listed, "ChecksumCRC32", crc, content)
        ):
            told(len(content), False)
            return _part(number, listed)
        answer = self.with_checksum(
            lambda checksum: self._client.upload_part(
                Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id, PartNumber=number,
                Body=Body(content, self._stopped), **checksum,
            ),
            {"ChecksumCRC32": crc},
        )  # fmt: skip
        self.compare(answer, "ChecksumCRC32", crc, content)
        told(len(content), True)
        return _part(number, answer)

    def complete(self, upload: Upload, parts: list[dict[str, Any]], crc: int) -> str:
        """Make an object of an upload's parts, whose CRC32 is `crc`; return its ETag."""
        answer = self.with_checksum(
            lambda checksum: self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id,
                MultipartUpload={"Parts": parts}, **checksum,
            ),
            {"ChecksumCRC32": crc32_text(crc), "ChecksumType": "FULL_OBJECT"},
        )  # fmt: skip
        with self._lock:
            self._open.pop(upload.key, None)
        etag: str = required(answer, "ETag", repr(upload.key))
        return etag

    def with_checksum(
        self, call: Callable[[dict[str, str]], dict[str, Any]], checksum: dict[str, str]
    ) -> Any:
        """Call with a checksum; without, once a server has refused that."""
        if not self._checksums:
            return call({})
        try:
            return call(checksum)
        except aws.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _NOT_KNOWN:
                raise
        answer = call({})
        self._checksums = False  # that was the reason
        return answer

    def compare(self, answer: dict[str, Any], name: str, checksum: str, content: bytes) -> None:
        """Note what the server's answer shows of what it has got.

        Raises:
            BadResponse: that it is something else.

        """
        check, right = _shown(answer, name, checksum, content)
        if not right:
            raise BadResponse("the server has got other bytes than were sent", "run it again")
        with self._lock:
            self._weakest = max(self._weakest, check, key=list(Check).index)

    def abort(self, key: str, upload_id: str) -> None:
        """Have the server forget an upload, if it still knows it."""
        with suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def abort_all(self) -> None:
        """Have it forget all that are open, and those that nobody went on with."""
        for key, upload_id in [*self._open.items(), *self._left.items()]:
            self.abort(key, upload_id)
        self._open.clear()
        self._left.clear()


def crc32_text(value: int) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def sha256_text(content: bytes) -> str:
    """Return the SHA-256 of `content` as S3 writes it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def is_md5(answer: dict[str, Any]) -> bool:
    """Tell whether the ETag an answer has is the MD5 of the bytes."""
    encrypted = "kms" in answer.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in answer
    return not encrypted and _MD5.fullmatch(answer.get("ETag", "").strip('"')) is not None


def _shown(answer: dict[str, Any], name: str, checksum: str, content: bytes) -> tuple[Check, bool]:
    """Return by what an answer can be compared with the bytes that were sent, and whether it fits."""
    if answer.get(name):
        return Check.CHECKSUM, answer[name] == checksum
    if is_md5(answer):
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return Check.MD5, md5 == answer["ETag"].strip('"')
    return Check.SIZE, True


def _matches(listed: dict[str, Any], name: str, checksum: str, content: bytes) -> bool:
    check, right = _shown(listed, name, checksum, content)
    return right and check is not Check.SIZE and bool(listed.get("ETag"))


def _part(number: int, answer: dict[str, Any]) -> dict[str, Any]:
    found = {"PartNumber": number, "ETag": required(answer, "ETag", f"part {number}")}
    if answer.get("ChecksumCRC32"):
        found["ChecksumCRC32"] = answer["ChecksumCRC32"]
    return found
