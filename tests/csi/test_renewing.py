"""A secret that changes says who asks from then on. Whom is asked stays as it was, for all who read."""

import os
import signal

import pytest

from tests.csi.rig import new_pod, until
from tests.faults.bucket import FaultBucket
from tests.faults.server import FaultServer
from tests.hub import Hub

RIGHT, FORGED = b"import right  # the publisher's\n", b"import wrong  # somebody else's"
NAMES = ("modeling_one.py", "modeling_two.py")
DEMAND = {"policy": "demand"}


@pytest.fixture
def hub():
    with Hub() as found:
        found.repository("org/model").commit(dict.fromkeys(NAMES, RIGHT))
        yield found


@pytest.fixture
def buckets():
    """A bucket, and another of the same name, whose objects have the same names, sizes and ETags."""
    found = [FaultBucket(dict.fromkeys(NAMES, content)) for content in (RIGHT, FORGED)]
    yield found
    for one in found:
        one.close()


@pytest.fixture
def forger():
    """A server that has the same answer to whatever it is asked."""
    found = FaultServer(FORGED)
    yield found
    found.close()


def told(node, what):
    """Wait until both processes have heard of a changed secret; return what was said of the rest of it."""
    until(lambda: node.plugin.logged("credentials_renewed"))
    lines = node.plugin.logged("renewal_ignored") + node.mounter.logged("renewal_ignored")
    assert all(f"what={what!r}" in line for line in lines)
    return len(lines)


def test_a_changed_endpoint_of_the_hub_is_ignored_and_nobody_reads_from_there(node, hub, forger):
    volume, pod, first, second = {"source": "hf://org/model"} | DEMAND, new_pod(), *NAMES
    secret = {"HF_ENDPOINT": hub.url}
    target = node.publish(pod, volume, secret, namespace="thief")

    for _ in range(2):
        node.publish(pod, volume, secret | {"HF_ENDPOINT": forger.url("")}, namespace="thief")
    assert RIGHT == (target / first).read_bytes()
    victim = node.publish(new_pod(), volume, secret, namespace="victim")

    assert [RIGHT, RIGHT] == [(victim / name).read_bytes() for name in (first, second)]
    assert [] == forger.asked
    assert 1 == told(node, "HF_ENDPOINT")


def test_a_changed_endpoint_of_s3_is_ignored_by_the_next_worker_too(node, buckets):
    own, other = buckets
    volume, pod, first, second = {"source": own.address} | DEMAND, new_pod(), *NAMES
    secret = {name: own.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    places = {"AWS_ENDPOINT_URL": own.url(""), "AWS_REGION": "us-east-1"}
    elsewhere = {"AWS_ENDPOINT_URL": other.url(""), "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "another"}
    target = node.publish(pod, volume, secret | places, namespace="thief")

    node.publish(pod, volume, secret | elsewhere, namespace="thief")
    assert RIGHT == (target / first).read_bytes()
    signed = next(asked.path for asked in reversed(own.asked) if asked.path.startswith(f"/faults/{first}"))
    (worker,) = node.workers()
    os.kill(worker, signal.SIGKILL)
    assert RIGHT == (target / second).read_bytes()

    assert "Credential=another%2F" in signed
    assert "us-east-1" in signed
    assert [] == other.asked
    assert 1 == told(node, "AWS_ENDPOINT_URL, AWS_REGION")


def test_a_bucket_of_one_server_is_not_that_of_another_for_two_who_share_a_node(node, buckets):
    own, other = buckets
    volume = {"source": own.address} | DEMAND
    thief = node.publish(new_pod(), volume, other.environment, namespace="thief")
    forged = [(thief / name).read_bytes() for name in NAMES]

    victim = node.publish(new_pod(), volume, own.environment, namespace="victim")

    assert [FORGED, FORGED] == forged
    assert [RIGHT, RIGHT] == [(victim / name).read_bytes() for name in NAMES]
