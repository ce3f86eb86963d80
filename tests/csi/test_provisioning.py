"""A volume of a StorageClass, with all that Kubernetes adds to it on its way from the class to the pod."""

import os

import pytest

from lazyfs_csi.controller import Controller
from lazyfs_csi.wire import csi_pb2 as csi
from tests.csi.conftest import a_node
from tests.csi.provisioner import Claim, PersistentVolume, Provisioner
from tests.csi.rig import ACCESS_MODES, capability, new_pod

IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"


@pytest.fixture(scope="module")
def node(model):
    with a_node(allow=(f"file://{model}",)) as found:
        yield found.start()


@pytest.fixture(scope="module")
def provisioner(node):
    return Provisioner(node.channel)


@pytest.fixture
def parameters(model):
    return {
        "source": f"file://{model}",
        "csi.storage.k8s.io/node-publish-secret-name": "s3",
        "csi.storage.k8s.io/node-publish-secret-namespace": "${pvc.namespace}",
    }


def test_a_volume_of_a_class_lives_as_long_as_its_claim(node, provisioner, parameters, model):
    volume = provisioner.provision(Claim(), parameters)
    assert {IDENTITY, "source"} == set(volume.attributes)
    pod = new_pod()

    target = node.publish_volume(pod, volume)
    assert sorted(os.listdir(model)) == sorted(os.listdir(target))
    for _ in range(3):  # requiresRepublish
        assert target == node.publish_volume(pod, volume)
    assert not node.stats(pod, target, volume.handle).volume_condition.abnormal
    node.unpublish(pod, target, volume.handle)
    provisioner.delete(volume)

    assert ([], []) == node.mounts()
    assert ["vol_data.json"] == os.listdir(target.parent), "the kubelet removes its file, and the directory"


@pytest.mark.parametrize("mode", ACCESS_MODES)
def test_a_claim_may_have_any_access_mode_and_a_class_what_is_usual(node, provisioner, parameters, mode):
    claim = Claim(access_modes=(mode,))
    volume = provisioner.provision(claim, parameters, ("ro", "noatime"), "ext4", {"some": "secret"})
    pod = new_pod()

    target = node.publish_volume(pod, volume)

    assert (target / "config.json").read_bytes()
    node.unpublish(pod, target, volume.handle)


def test_pods_of_a_claim_and_of_an_inline_volume_share_a_mount(node, provisioner, parameters):
    volume = provisioner.provision(Claim(), parameters)
    pods = [new_pod(), new_pod()]

    targets = [
        node.publish_volume(pods[0], volume),
        node.publish(pods[1], {"source": parameters["source"]}),
    ]

    assert (1, 2) == tuple(map(len, node.mounts()))
    node.unpublish(pods[0], targets[0], volume.handle)
    node.unpublish(pods[1])


def test_what_kubernetes_adds_later_leaves_the_volume_what_it_was(node, parameters):
    """A provisioner that began anew has another identity; one volume is made by one, and asked for again."""
    attributes = {"source": parameters["source"], IDENTITY: "1-1-csi.lazyfs.dev"}
    before = PersistentVolume("pv", "handle", attributes)
    after = PersistentVolume("pv", "handle", attributes | {IDENTITY: "2-2", "node.kubernetes.io/new": "x"})
    pod = new_pod()

    target = node.publish_volume(pod, before)
    node.publish_volume(pod, after, publish_context={"attacher.storage.k8s.io/by": "csi-attacher"})

    assert (1, 1) == tuple(map(len, node.mounts()))
    node.unpublish(pod, target, before.handle)


def test_who_writes_a_pod_cannot_say_that_it_is_in_another_namespace(node, parameters):
    """The kubelet's own word replaces theirs; credentials are shared within a namespace only."""
    forged = {"csi.storage.k8s.io/pod.namespace": "owner", "csi.storage.k8s.io/ephemeral": "false"}
    asked, secret = {"source": parameters["source"]}, {"HF_TOKEN": "hf_same"}
    pods = [new_pod(), new_pod()]

    node.publish(pods[0], asked, secret, namespace="owner")
    node.publish(pods[1], asked | forged, secret, namespace="thief")

    assert (2, 2) == tuple(map(len, node.mounts()))
    for pod in pods:
        node.unpublish(pod)


@pytest.mark.parametrize(
    "added",
    [
        "csi.storage.k8s.io/provisioner-secret-name",
        "csi.storage.k8s.io/controller-expand-secret-namespace",
        "csi.storage.k8s.io/fstype",
        "storage.kubernetes.io/csiProvisionerIdentity",
        "volume.kubernetes.io/selected-node",
        "k8s.io/anything",
    ],
)
def test_a_provisioner_may_pass_on_what_is_kubernetes_own(added):
    """Versions differ in what they take out of a class's parameters."""
    request = csi.CreateVolumeRequest(
        name="pvc-1", volume_capabilities=[capability()], parameters={"source": "s3://b/m", added: "x"}
    )

    assert {"source": "s3://b/m"} == dict(Controller().CreateVolume(request, None).volume.volume_context)
