"""The S3 server for those who publish: objects by PUT, and uploads in parts."""

import hashlib
from dataclasses import dataclass
from itertools import count

from tests.aws.asked import Answer, Request
from tests.aws.signing import Refused
from tests.aws.storage import Storage, error


@dataclass(frozen=True)
class Silence:
    """What the server leaves out."""

    etag: bool = False
    """Of its answers to PUT."""
    part_etag: bool = False
    """Of the parts it lists."""
    markers: bool = False
    """Of listings that are cut: it does not say where to go on."""
    upload_id: bool = False
    """Of its answer to who begins an upload."""


class UploadStorage(Storage):
    """Takes objects, and lists uploads and parts two on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.silence = Silence()
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        """By id: the key, and the parts."""
        self._ids = count(1)

    def begun(self, key: str, parts: dict[int, bytes]) -> None:
        """Have an upload that somebody has left."""
        self.uploads[f"{next(self._ids):04d}"] = key, parts

    def _object(self, request: Request, key: str) -> Answer:  # noqa: PLR0911 - one for each operation
        query, method = request.query, request.method
        if method == "PUT" and "uploadId" in query:
            self.uploads[query["uploadId"]][1][int(query["partNumber"])] = request.body
            return self._taken(request.body)
        if method == "PUT":
            self.objects[key] = request.body
            return self._taken(request.body)
        if method == "POST" and "uploads" in query:
            self.begun(key, {})
            name = "" if self.silence.upload_id else f"<UploadId>{max(self.uploads)}</UploadId>"
            return _xml("InitiateMultipartUploadResult", name)
        if method == "POST":
            _, parts = self.uploads.pop(query["uploadId"])
            self.objects[key] = b"".join(parts[number] for number in sorted(parts))
            return _xml(
                "CompleteMultipartUploadResult", "" if self.silence.etag else "<ETag>&quot;x-1&quot;</ETag>"
            )
        if method == "DELETE":
            self.uploads.pop(query.get("uploadId", ""), None)
            return Answer(204)
        if "uploadId" in query:
            return self._parts(query)
        return super()._object(request, key)

    def _taken(self, content: bytes) -> Answer:
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        return Answer(200, b"", {} if self.silence.etag else {"ETag": etag})

    def _listing(self, request: Request) -> Answer:
        if "uploads" not in request.query:
            return super()._listing(request)
        after = request.query.get("upload-id-marker", "")
        ids = [name for name in sorted(self.uploads) if name > after]
        items = [
            f"<Upload><Key>{self.uploads[name][0]}</Key><UploadId>{name}</UploadId></Upload>"
            for name in ids[:2]
        ]
        last = (
            f"<NextKeyMarker>x</NextKeyMarker><NextUploadIdMarker>{ids[1]}</NextUploadIdMarker>"
            if ids[2:]
            else ""
        )
        return self._cut("ListMultipartUploadsResult", items, last)

    def _parts(self, query: dict[str, str]) -> Answer:
        upload = self.uploads.get(query["uploadId"])
        if upload is None:
            return error(Refused(404, "NoSuchUpload"))
        after = int(query.get("part-number-marker", "0"))
        numbers = [number for number in sorted(upload[1]) if number > after]
        items = [self._part(number, upload[1][number]) for number in numbers[:2]]
        last = f"<NextPartNumberMarker>{numbers[1]}</NextPartNumberMarker>" if numbers[2:] else ""
        return self._cut("ListPartsResult", items, last)

    def _part(self, number: int, content: bytes) -> str:
        etag = (
            "" if self.silence.part_etag else f"<ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag>"
        )
        return f"<Part><PartNumber>{number}</PartNumber><Size>{len(content)}</Size>{etag}</Part>"

    def _cut(self, name: str, items: list[str], last: str) -> Answer:
        said = f"<IsTruncated>{str(bool(last)).lower()}</IsTruncated>"
        return _xml(name, said + ("" if self.silence.markers else last) + "".join(items))


def _xml(name: str, inner: str) -> Answer:
    return Answer(200, f"<{name}>{inner}</{name}>".encode(), {"Content-Type": "application/xml"})
