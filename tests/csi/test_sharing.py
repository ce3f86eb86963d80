"""What a volume can read of what others have brought to the node's cache."""

import json
import os
import subprocess
import sys

import pytest

from tests.csi.conftest import a_node
from tests.csi.rig import new_pod, until
from tests.sources import webservers

SHARD = "model-00001-of-00003.safetensors"


@pytest.fixture
def owned(hosted, seaweed, model):
    """A model with digests, in a bucket that only those with a secret can read."""
    address = f"s3://{hosted.name}/owned"
    command = [sys.executable, "-m", "lazyfs", "publish", model, address]
    subprocess.run(
        [*command, "--endpoint-url", seaweed.endpoint_url],
        env=os.environ | seaweed.environment,
        check=True,
        capture_output=True,
    )
    return address


@pytest.fixture
def claimed(tmp_path, model, digests):
    """A web server that has of the model the names, sizes and digests, and files of zeros."""
    root = tmp_path / "www"
    root.mkdir()
    root.chmod(0o755)
    said = [{"name": n, "size": (model / n).stat().st_size, "sha256": d} for n, d in digests.items()]
    for one in said:
        file = root / one["name"]
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.truncate(file, one["size"])
    (root / "lazyfs.json").write_text(json.dumps({"lazyfs": 1, "files": said}))
    with webservers.nginx(root, tmp_path / "state") as port:
        yield f"http://127.0.0.1:{port}/"


def stolen(node, owned, claimed, secrets, model):
    node.publish(new_pod(), {"source": owned}, secrets, namespace="owner")
    until(lambda: 3 <= len([line for line in node.mounter.logged("verified") if "safetensors" in line]))

    target = node.publish(new_pod(), {"source": claimed, "policy": "demand"}, namespace="thief")

    return (model / SHARD).read_bytes() == (target / SHARD).read_bytes()


def test_a_digest_is_no_key_to_what_only_others_may_read(node, owned, claimed, secrets, model):
    assert not stolen(node, owned, claimed, secrets, model)


def test_where_everybody_may_read_everything_a_digest_is_enough(owned, claimed, secrets, model):
    with a_node(mounter=["--share-digests"]) as node:
        assert stolen(node.start(), owned, claimed, secrets, model)
