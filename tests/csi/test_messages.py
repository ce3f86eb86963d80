"""What `kubectl describe pod` says when a volume cannot be mounted: codes, and messages word by word."""

import contextlib
import subprocess

import grpc
import pytest

from tests.csi.conftest import a_node
from tests.csi.rig import new_pod, unreachable
from tests.faults.blackhole import black_hole


def refused(node, attributes, secrets=None, **how):
    """Return code and message; nothing is left of it."""
    pod = new_pod()
    with pytest.raises(grpc.RpcError) as caught:
        node.publish(pod, attributes, secrets, **how)
    assert ([], []) == node.mounts()
    node.unpublish(pod)
    return caught.value.code().name, caught.value.details()


def test_messages_of_a_source(node, secrets, hosted, seaweed):
    """In one test: a node takes longer to start than all of these."""
    url = unreachable()
    host = url.removeprefix("http://")
    source = hosted.address

    assert (
        "NOT_FOUND", "there is no bucket nowhere-at-all; check its name and attribute endpointUrl"
    ) == refused(node, {"source": "s3://nowhere-at-all/model"}, secrets)  # fmt: skip
    assert (
        "NOT_FOUND", (f"there is nothing at {source}-not; check the prefix; "
        f"`lazyfs ls s3://{hosted.name}` shows what there is"),
    ) == refused(node, {"source": f"{source}-not"}, secrets)  # fmt: skip
    assert (
        "UNAUTHENTICATED",
        (
            "the credentials are wrong (SignatureDoesNotMatch: The request signature we calculated does not "
            "match the signature you provided. Check your key and signing method); "
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ),
    ) == refused(node, {"source": source}, secrets | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert (
        "UNAUTHENTICATED", ("there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
        "in the volume's secret (nodePublishSecretRef), or use attribute anonymous for a public bucket"),
    ) == refused(node, {"source": source, "endpointUrl": seaweed.endpoint_url})  # fmt: skip
    assert (
        "PERMISSION_DENIED",
        (
            f"access to bucket {hosted.name} is denied (AccessDenied: Access Denied); grant s3:ListBucket "
            "and s3:GetObject, to publish s3:PutObject; for a public bucket use attribute anonymous"
        ),
    ) == refused(node, {"source": source, "endpointUrl": seaweed.endpoint_url, "anonymous": "true"})
    assert (
        "UNAVAILABLE", f"cannot connect to {host}; check attribute endpointUrl, and that the server runs"
    ) == refused(node, {"source": source}, secrets | {"AWS_ENDPOINT_URL": url})  # fmt: skip
    assert (
        "INVALID_ARGUMENT", "unknown scheme ftp://; a source begins with one of "
    ) == tuple(text[:51] for text in refused(node, {"source": "ftp://host/model"}))  # fmt: skip


def test_messages_of_attributes_and_secrets(node, secrets):
    code, message = refused(node, {"source": "s3://b", "polcy": "file"}, secrets)
    assert "INVALID_ARGUMENT" == code
    assert message.startswith("there is no attribute polcy; the attributes are addressingStyle, anonymous, ")
    assert (
        "INVALID_ARGUMENT",
        (
            "the secret has none of the keys that are known, but password; the keys are AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, "
            "HF_TOKEN, HF_ENDPOINT, LAZYFS_HTTP_TOKEN, LAZYFS_HTTP_USER, LAZYFS_HTTP_PASSWORD"
        ),
    ) == refused(node, {"source": "s3://b"}, {"password": "hunter2"})
    assert (
        "INVALID_ARGUMENT", ("no attribute says what to mount; give source; write it like s3://bucket/models/"
        "llama, hf://org/model or https://host/models/llama"),
    ) == refused(node, {})  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"source": "file:///etc"},
            (
                "/etc is not where a file:// source may be; whoever runs this machine can --allow-source "
                "file:///DIRECTORY/*"
            ),
        ),
        ({"source": "s3://b/m", "endpointUrl": "http://169.254.169.254"}, "169.254.169.254, a link-local"),
        ({"source": "s3://b/m", "endpointUrl": "http://localhost:1"}, "localhost is 127.0.0.1, a loopback"),
    ],
    ids=["file", "metadata", "loopback"],
)
def test_a_source_that_would_be_a_way_into_the_node_is_refused(secrets, attributes, message):
    own = {name: text for name, text in secrets.items() if name != "AWS_ENDPOINT_URL"}
    with a_node(allow=()) as node:
        code, said = refused(node.start(), attributes, own)
    assert "PERMISSION_DENIED" == code
    assert said.startswith(message)


def test_an_endpoint_that_says_nothing_is_waited_for_only_so_long(secrets):
    with black_hole() as port, a_node(plugin=["--publish-timeout", "2s"]) as node:
        node.start()
        pod = new_pod()
        with pytest.raises(grpc.RpcError) as caught:
            node.publish(
                pod,
                {"source": "s3://bucket/model"},
                secrets | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"},
            )
    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
    assert "s3://bucket/model is still being listed; it is asked again" == caught.value.details()


def test_without_a_mounter_that_is_said(secrets):
    with a_node(plugin=["--publish-timeout", "1s"]) as node:
        node.plugin.start()
        node.answering()
        with pytest.raises(grpc.RpcError) as caught:
            node.publish(new_pod(), {"source": "s3://bucket/model"}, secrets)
    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert (
        "the mounter of this node is not there; see the pods of the DaemonSet lazyfs-mounter"
        == caught.value.details()
    )


def test_a_full_disk_is_said(node, secrets, hosted):
    node.mounter.end()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", make(node.cache)], check=True)
    try:
        with contextlib.suppress(OSError), (node.cache / "full").open("wb") as file:
            file.write(bytes(1 << 20))
        node.mounter.start()
        code, message = refused(node, {"source": hosted.address}, secrets)
    finally:
        node.mounter.end()
        subprocess.run(["umount", node.cache], check=True)
    assert "RESOURCE_EXHAUSTED" == code
    assert message == (
        f"cache directory {node.cache} is full (0 bytes free); free some space, choose another --cache-dir, "
        "or mount without a cache: attribute cacheSize 0"
    )


def make(directory):
    directory.mkdir(exist_ok=True)
    return directory


def test_the_node_s_own_credentials_are_nobody_s_unless_it_is_allowed(hosted, seaweed, monkeypatch):
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    attributes = {"source": hosted.address, "endpointUrl": seaweed.endpoint_url}
    with a_node() as node:
        assert "UNAUTHENTICATED" == refused(node.start(), attributes)[0]
    with a_node(mounter=["--allow-node-identity"]) as node:
        assert (node.start().publish(new_pod(), attributes) / "config.json").read_bytes()


def test_nothing_secret_is_in_any_log_or_file(node, hosted, secrets):
    node.publish(new_pod(), {"source": hosted.address}, secrets)

    state = b"".join(file.read_bytes() for file in node.state.rglob("*.json"))
    node.plugin.end()
    node.mounter.end()
    said = (node.plugin.log + node.mounter.log).encode() + state
    assert secrets["AWS_SECRET_ACCESS_KEY"].encode() not in said
    assert secrets["AWS_ACCESS_KEY_ID"].encode() not in said
    assert b"NodePublishVolume" in said
