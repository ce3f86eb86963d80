"""Volumes of web servers: whose credentials are used, and what is said when there are none."""

import grpc
import pytest

from tests.csi.conftest import a_node
from tests.csi.rig import new_pod
from tests.faults.server import Behaviour, FaultServer

TOKEN = "token-of-the-team"


@pytest.fixture
def server():
    """A server with one file, for who has the token."""
    found = FaultServer()
    found.files["/model.safetensors"] = b"weights" * 1000
    entitled = f"Bearer {TOKEN}"
    found.behave = lambda asked: Behaviour(
        status=None if asked.headers.get("authorization") == entitled else 401
    )
    yield found
    found.close()


@pytest.fixture
def node(monkeypatch):
    """A node whose own processes have the token."""
    monkeypatch.setenv("LAZYFS_HTTP_TOKEN", TOKEN)
    with a_node() as found:
        yield found.start()


def test_a_token_is_the_volumes_own_and_never_the_nodes(server, node):
    address = server.url("/model.safetensors")

    with pytest.raises(grpc.RpcError) as caught:
        node.publish(new_pod(), {"source": address})
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details().endswith(
        "set LAZYFS_HTTP_TOKEN, or LAZYFS_HTTP_USER and LAZYFS_HTTP_PASSWORD in the volume's secret "
        "(nodePublishSecretRef)"
    )

    target = node.publish(new_pod(), {"source": address}, {"LAZYFS_HTTP_TOKEN": TOKEN})
    assert b"weights" * 1000 == (target / "model.safetensors").read_bytes()
