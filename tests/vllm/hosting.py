"""A model on local disk and, the same, in a real S3 server behind a slow link."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

from lazyfs.demo.seaweed import SeaweedFS
from tests.vllm.model import LlamaShape, make_llama

BUCKET = "models"
LINK_BYTES_PER_S = 100e6
"""The slow link: all connections together."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """Where the same model is: a directory, and an address that `environment` gives access to."""

    directory: Path
    name: str
    environment: dict[str, str]
    size_bytes: int

    @property
    def address(self) -> str:
        """What `lazyfs mount` takes."""
        return f"s3://{BUCKET}/{self.name}"

    def download(self, target: Path) -> None:
        """Fetch the model over the link, all files at once."""
        target.mkdir(parents=True)
        client = _client(self.environment)
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.name}/")["Contents"]
        with ThreadPoolExecutor(len(found)) as threads:
            jobs = [
                threads.submit(
                    client.download_file, BUCKET, entry["Key"], str(target / Path(entry["Key"]).name)
                )
                for entry in found
            ]
        for job in jobs:
            job.result()
        client.close()


class Host:
    """The S3 server and the link to it; models are made and put there by `put`."""

    def __init__(self, server: SeaweedFS, link_port: int, work: Path) -> None:
        self._server = server
        self._link_port = link_port
        self._work = work

    def put(self, name: str, shape: LlamaShape) -> Hosted:
        """Make a model on local disk and upload it past the link."""
        directory = self._work / name
        size = make_llama(directory, shape)
        client = self.client()
        for file in sorted(directory.iterdir()):
            client.upload_file(str(file), BUCKET, f"{name}/{file.name}")
        client.close()
        return Hosted(directory, name, self.environment(self._link_port), size)

    def client(self) -> Any:
        """Return a client that comes past the link."""
        return _client(self.environment(self._server.port))

    def environment(self, port: int) -> dict[str, str]:
        """Return the environment of a client that comes by this port of loopback."""
        return client_environment(f"http://127.0.0.1:{port}", self._server.environment)


def client_environment(endpoint_url: str, credentials: dict[str, str]) -> dict[str, str]:
    """Return this process's environment, but nothing of what it has configured for AWS or lazyfs."""
    foreign = ("AWS_", "LAZYFS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    server = str(urlsplit(endpoint_url).hostname)
    own = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    own |= {"AWS_ENDPOINT_URL": endpoint_url, "NO_PROXY": server, "no_proxy": server}
    return inherited | credentials | own


@contextmanager
def host(work: Path, link_bytes_per_s: float = LINK_BYTES_PER_S) -> Iterator[Host]:
    """Run the server and the link for the length of a `with` block."""
    with SeaweedFS(work / "seaweed") as server, _link(server.port, link_bytes_per_s) as port:
        found = Host(server, port, work)
        client = found.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield found


@contextmanager
def _link(upstream_port: int, bytes_per_s: float) -> Iterator[int]:
    command = [sys.executable, "-m", "lazyfs.demo.link", str(upstream_port), str(bytes_per_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as link:
        try:
            assert link.stdout is not None
            yield int(link.stdout.readline())
        finally:
            link.kill()


def _client(environment: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
