"""The fault server with the little of S3 a mount asks for: one bucket, listed in one page. Nothing is signed.

Only reads of objects misbehave; the listing, which a mount asks for once, is always right.
"""

import os
import socket
from collections.abc import Mapping
from urllib.parse import quote, unquote

from tests.faults.server import Asked, Content, FaultServer

NAME = "faults"
_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>{etag}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_LISTING = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{name}</Name><Prefix/>'
    "<KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}"
    "</ListBucketResult>"
)


class FaultBucket(FaultServer):
    """Serves `objects` by key. Keys may have blanks; whatever else S3 quotes, they may not."""

    def __init__(self, objects: Mapping[str, Content]) -> None:
        super().__init__()
        self.address = f"s3://{NAME}"
        self.files |= {f"/{NAME}/{quote(key)}": content for key, content in objects.items()}

    @property
    def environment(self) -> dict[str, str]:
        """An environment in which `lazyfs mount` finds this bucket, and nothing else of AWS."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAZYFS_"))}
        return kept | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def _answer(self, client: socket.socket, asked: Asked) -> bool:
        if "list-type=2" not in asked.path:
            return super()._answer(client, asked)
        entries = "".join(
            _ENTRY.format(key=unquote(path).removeprefix(f"/{NAME}/"), etag=self.etag, size=len(content))
            for path, content in sorted(self.files.items())
        )
        body = _LISTING.format(name=NAME, count=len(self.files), entries=entries).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        return True


def key_of(asked: Asked) -> str:
    """Return the key of the object a request is for."""
    return unquote(asked.path.partition("?")[0]).removeprefix(f"/{NAME}/")
