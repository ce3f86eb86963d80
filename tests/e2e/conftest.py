import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lazyfs.demo.link import Link
from lazyfs.fuse.channel import detach
from tests.sources.places import Bucket

BLOCK = 256 << 10
"""A small block size makes small files have many blocks."""


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A model directory of 44 MB: three shards, one of mixed dtypes, and small files."""
    root = tmp_path_factory.mktemp("model")
    random = np.random.Generator(np.random.SFC64(11))

    def matrix(rows, columns, dtype):
        return random.integers(0, 256, size=(rows, columns * np.dtype(dtype).itemsize), dtype=np.uint8).view(
            dtype
        )

    for shard in (1, 2):
        tensors = {f"layers.{layer}.{name}": matrix(1024, 512, np.float16)
                   for layer in range(shard * 4 - 4, shard * 4) for name in ("q", "k", "v", "o")}  # fmt: skip
        save_file(tensors, root / f"model-{shard:05d}-of-00003.safetensors")
    dtypes = {"weight": np.uint8, "scale": np.float32, "norm": np.float16}
    mixed = {
        f"experts.{n}.{part}": matrix(512, 300, dtype) for n in range(6) for part, dtype in dtypes.items()
    }
    save_file(mixed, root / "model-00003-of-00003.safetensors", {"format": "pt"})
    (root / "config.json").write_text('{"model_type": "test"}')
    (root / "sub").mkdir()
    (root / "sub" / "tokenizer.json").write_bytes(random.bytes(700_001))
    return root


@pytest.fixture(scope="session")
def digests(model):
    return {
        str(file.relative_to(model)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(model.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def bucket(aws):
    found = Bucket(aws)
    yield found
    found.close()


def upload(bucket: Bucket, root: Path) -> None:
    for file in root.rglob("*"):
        if file.is_file():
            bucket.client.upload_file(str(file), bucket.name, bucket.key(str(file.relative_to(root))))


@pytest.fixture(scope="session")
def hosted(seaweed, model):
    """The model in the S3 server."""
    bucket = Bucket(seaweed)
    upload(bucket, model)
    bucket.close()
    return bucket


@pytest.fixture
def link(aws, monkeypatch):
    """A way to the S3 server that remembers the requests that went through, and sets the endpoint to it."""
    requests: list[bytes] = []
    found = Link(("127.0.0.1", aws.port), on_request=requests.append)
    found.requests = requests  # type: ignore[attr-defined]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
    yield found
    found.close()


@pytest.fixture
def endpoint(aws, monkeypatch):
    """The S3 server as the endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    return aws


@pytest.fixture
def slow_link(aws, monkeypatch):
    """A way to the S3 server so slow that nobody gets a block in time."""
    found = Link(("127.0.0.1", aws.port), rate_bytes_per_s=60_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
    yield found
    found.close()


@pytest.fixture
def mnt(tmp_path):
    """A place to mount at; what a test that failed left there is taken away."""
    yield tmp_path / "mnt"
    detach(tmp_path / "mnt")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
