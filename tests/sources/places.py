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


class Place(Protocol):
    address: str
    access: Access

    def put(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


class Directory:
    """A directory on this machine."""

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


PLACES = ("local", "s3")
