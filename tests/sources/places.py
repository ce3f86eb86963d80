"""Places a source can read from, with the same few verbs, so that one contract suite can drive each.

A new source adds its place here and its name to `PLACES` (docs/adding-a-source.md).
"""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import boto3

from lazyfs.demo.seaweed import SeaweedFS
from lazyfs.sources import Access
from tests.hub import Hub


class Place(Protocol):
    address: str
    access: Access
    keeps_versions: bool
    """Whether what was replaced or removed can still be read by whoever has pinned it."""

    def put(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


class Directory:
    """A directory on this machine."""

    keeps_versions = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = f"file://{root}"
        self.access = Access()

    def put(self, name: str, content: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new time every time, however coarse the clock of the file system is.
        path.write_bytes(content)
        os.utime(path, ns=(uuid.uuid4().int % 10**18, uuid.uuid4().int % 10**18))

    def remove(self, name: str) -> None:
        (self._root / name).unlink()


class Bucket:
    """A prefix of a bucket of the S3 server."""

    keeps_versions = False

    def __init__(self, server: SeaweedFS, name: str = "tests") -> None:
        self.name = name
        self.prefix = f"{uuid.uuid4().hex[:12]}/prefix"
        self.access = Access(endpoint_url=server.endpoint_url)
        self.client = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
        )
        with suppress(
            self.client.exceptions.BucketAlreadyExists, self.client.exceptions.BucketAlreadyOwnedByYou
        ):
            self.client.create_bucket(Bucket=self.name)
        self.address = f"s3://{self.name}/{self.prefix}"

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=self.key(name), Body=content)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=self.key(name))

    def close(self) -> None:
        self.client.close()


class HubModel:
    """A model of the Hub-like server. Its commits stay as they are: what was pinned can always be read."""

    keeps_versions = True

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        name = f"tests/{uuid.uuid4().hex[:12]}"
        self.repository = hub.repository(name, large_bytes=1000)
        self.address = f"hf://{name}"
        self.access = Access()

    def put(self, name: str, content: bytes) -> None:
        self.repository.commit({name: content})

    def remove(self, name: str) -> None:
        self.repository.commit({name: None})


class WebDirectory(Directory):
    """A directory on this machine that a web server serves."""

    def __init__(self, root: Path, port: int) -> None:
        super().__init__(root)
        self.address = f"http://127.0.0.1:{port}/{root.name}"

    def put(self, name: str, content: bytes) -> None:
        super().put(name, content)
        # HTTP dates have whole seconds.
        seconds = uuid.uuid4().int % 10**9
        os.utime(self._root / name, (seconds, seconds))


WEB_PLACES = ("nginx-json", "nginx-html", "apache-plain", "apache-fancy", "apache-table", "python")
"""The web servers are those whose indexes `http://` reads."""
PLACES = ("local", "s3", "hub", *WEB_PLACES)
