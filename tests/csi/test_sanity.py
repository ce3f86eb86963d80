"""The checks of csi-sanity (kubernetes-csi/csi-test, v5.5), over real gRPC, with real mounts.

All services are at one endpoint here: what serves the node serves the controller too, which has no state.
"""

import os

import grpc
import pytest

from lazyfs_csi.wire import csi_pb2 as csi
from lazyfs_csi.wire import csi_pb2_grpc
from tests.csi.conftest import a_node
from tests.csi.rig import DRIVER, MODES, capability


@pytest.fixture(scope="module")
def node(model):
    with a_node(allow=(f"file://{model}",)) as found:
        yield found.start()


@pytest.fixture(scope="module")
def controller(node):
    """The controller that node mode serves, too: csi-sanity may be given one endpoint only."""
    return csi_pb2_grpc.ControllerStub(node.channel)


@pytest.fixture
def parameters(model):
    return {"source": f"file://{model}"}


def code_of(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    assert caught.value.details()
    return caught.value.code().name


def wanted(volume, parameters, **more):
    fields = {"name": volume, "volume_capabilities": [capability()], "parameters": parameters}
    return csi.CreateVolumeRequest(**fields | more)


# -- Identity


def test_identity_says_name_version_and_capabilities_and_is_ready(node):
    info = node.identity.GetPluginInfo(csi.GetPluginInfoRequest())
    assert DRIVER == info.name
    assert info.vendor_version
    service = csi.PluginCapability.Service
    (found,) = node.identity.GetPluginCapabilities(csi.GetPluginCapabilitiesRequest()).capabilities
    assert service.CONTROLLER_SERVICE == found.service.type
    assert node.identity.Probe(csi.ProbeRequest()).ready.value


# -- Controller


def test_controller_capabilities(controller):
    found = controller.ControllerGetCapabilities(csi.ControllerGetCapabilitiesRequest()).capabilities
    rpc = csi.ControllerServiceCapability.RPC
    assert [rpc.CREATE_DELETE_VOLUME] == [capability.rpc.type for capability in found]


@pytest.mark.parametrize("lacking", [{"name": ""}, {"volume_capabilities": []}])
def test_create_needs_name_and_capabilities(controller, parameters, lacking):
    assert "INVALID_ARGUMENT" == code_of(controller.CreateVolume, wanted("v", parameters, **lacking))


def test_create_makes_a_volume_by_its_name_always_the_same(controller, parameters):
    first = controller.CreateVolume(wanted("pvc-1", parameters)).volume
    sized = wanted("pvc-1", parameters, capacity_range={"required_bytes": 10 << 30})
    again = [controller.CreateVolume(sized).volume for _ in range(2)]

    assert [first, first] == again
    assert "lazyfs-pvc-1" == first.volume_id
    assert parameters == first.volume_context


@pytest.mark.parametrize("limit", [0, 10 << 30])
def test_a_volume_of_one_name_has_one_size_until_it_is_deleted(controller, parameters, limit):
    """csi-sanity's "already existing name and different capacity"; an unknown capacity does not skip it."""
    sizes = {"required_bytes": 10 << 30, "limit_bytes": limit}
    first = wanted("pvc-sized", parameters, capacity_range=sizes)
    twice = {"required_bytes": 20 << 30, "limit_bytes": 20 << 30}
    second = wanted("pvc-sized", parameters, capacity_range=twice)
    half = wanted("pvc-sized", parameters, capacity_range={"limit_bytes": 5 << 30})

    volume = controller.CreateVolume(first).volume
    assert 0 == volume.capacity_bytes
    for other in (second, half):
        assert "ALREADY_EXISTS" == code_of(controller.CreateVolume, other)
    assert volume == controller.CreateVolume(first).volume
    assert volume == controller.CreateVolume(wanted("pvc-sized", parameters)).volume
    controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=volume.volume_id))
    controller.CreateVolume(second)
    controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=volume.volume_id))


def test_a_name_may_be_as_long_as_names_may_be(controller, parameters):
    volumes = [controller.CreateVolume(wanted(letter * 128, parameters)).volume for letter in "ab"]

    assert all(len(volume.volume_id) <= 128 for volume in volumes)
    assert volumes[0].volume_id != volumes[1].volume_id


def test_create_refuses_snapshots_and_what_is_no_source(controller, parameters):
    snapshot = {"volume_content_source": {"snapshot": {"snapshot_id": "s"}}}
    assert "INVALID_ARGUMENT" == code_of(controller.CreateVolume, wanted("v", parameters, **snapshot))
    assert "INVALID_ARGUMENT" == code_of(controller.CreateVolume, wanted("v", {}))
    assert "INVALID_ARGUMENT" == code_of(controller.CreateVolume, wanted("v", {"source": "nothing"}))


def test_delete_needs_an_id_and_succeeds_with_any(controller):
    assert "INVALID_ARGUMENT" == code_of(controller.DeleteVolume, csi.DeleteVolumeRequest())
    controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id="reallyfakevolumeid"))
    controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id="lazyfs-pvc-1"))


def test_validate_checks_id_capabilities_and_that_there_is_one(controller, parameters):
    validate, request = controller.ValidateVolumeCapabilities, csi.ValidateVolumeCapabilitiesRequest
    volume = controller.CreateVolume(wanted("pvc-2", parameters)).volume

    assert "INVALID_ARGUMENT" == code_of(validate, request(volume_capabilities=[capability()]))
    assert "INVALID_ARGUMENT" == code_of(validate, request(volume_id=volume.volume_id))
    assert "NOT_FOUND" == code_of(validate, request(volume_id="no", volume_capabilities=[capability()]))
    found = validate(
        request(
            volume_id=volume.volume_id, volume_capabilities=[capability(MODES.MULTI_NODE_READER_ONLY)],
            volume_context=volume.volume_context,
        )
    )  # fmt: skip
    assert MODES.MULTI_NODE_READER_ONLY == found.confirmed.volume_capabilities[0].access_mode.mode
    block = csi.VolumeCapability(block={}, access_mode={"mode": MODES.SINGLE_NODE_WRITER})
    answer = validate(request(volume_id=volume.volume_id, volume_capabilities=[block]))
    assert not answer.HasField("confirmed")
    assert "block" in answer.message


# -- Node


def test_node_info_and_capabilities(node):
    info = node.calls.NodeGetInfo(csi.NodeGetInfoRequest())
    assert ("node-1", 0) == (info.node_id, info.max_volumes_per_node)
    rpc = csi.NodeServiceCapability.RPC
    found = node.calls.NodeGetCapabilities(csi.NodeGetCapabilitiesRequest()).capabilities
    assert {rpc.GET_VOLUME_STATS, rpc.VOLUME_CONDITION} == {capability.rpc.type for capability in found}


PUBLISH = {"volume_id": "id", "target_path": "/tmp/none/target", "volume_capability": capability()}


@pytest.mark.parametrize("lacking", PUBLISH)
def test_publish_needs_id_target_and_capability(node, lacking):
    fields = {name: value for name, value in PUBLISH.items() if name != lacking}
    assert "INVALID_ARGUMENT" == code_of(node.calls.NodePublishVolume, csi.NodePublishVolumeRequest(**fields))


@pytest.mark.parametrize("fields", [{"target_path": "/tmp/x"}, {"volume_id": "id"}])
def test_unpublish_needs_id_and_target(node, fields):
    assert "INVALID_ARGUMENT" == code_of(
        node.calls.NodeUnpublishVolume, csi.NodeUnpublishVolumeRequest(**fields)
    )


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"volume_path": "some/path"}, "INVALID_ARGUMENT"),
        ({"volume_id": "id"}, "INVALID_ARGUMENT"),
        ({"volume_id": "id", "volume_path": "/some/path"}, "NOT_FOUND"),
    ],
)
def test_stats_need_a_volume_at_that_path(node, fields, code):
    assert code == code_of(node.calls.NodeGetVolumeStats, csi.NodeGetVolumeStatsRequest(**fields))


def test_services_that_there_are_not_are_unimplemented(node):
    call = node.channel.unary_unary("/csi.v1.Node/NodeStageVolume")
    assert "UNIMPLEMENTED" == code_of(call, b"")


@pytest.mark.parametrize("mode", [MODES.SINGLE_NODE_WRITER, MODES.MULTI_NODE_READER_ONLY])
def test_the_life_of_a_volume(node, controller, parameters, mode):
    """csi-sanity's "should work", "should be idempotent" and "should remove target path"."""
    volume = controller.CreateVolume(wanted(f"pvc-{mode}", parameters)).volume
    target = node.target(f"pod-{mode}")
    publish = csi.NodePublishVolumeRequest(
        volume_id=volume.volume_id, target_path=str(target), volume_capability=capability(mode),
        volume_context=volume.volume_context,
    )  # fmt: skip
    at = csi.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path=str(target))
    unpublish = csi.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target))

    for _ in range(2):
        node.calls.NodePublishVolume(publish, timeout=30)
        assert target.is_dir()
    usage = node.calls.NodeGetVolumeStats(at).usage
    assert usage
    assert all(entry.total >= 0 and entry.unit for entry in usage)
    elsewhere = csi.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path="/some/path")
    assert "NOT_FOUND" == code_of(node.calls.NodeGetVolumeStats, elsewhere)
    for _ in range(2):
        node.calls.NodeUnpublishVolume(unpublish, timeout=30)
        assert not target.exists()
    assert "NOT_FOUND" == code_of(node.calls.NodeGetVolumeStats, at)
    controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=volume.volume_id))


def test_a_volume_shown_twice_is_taken_away_twice(node, parameters):
    """Also as SINGLE_NODE_WRITER, which the kubelet says of inline volumes."""
    targets = [node.publish("p", parameters, target=node.target(pod)) for pod in ("one", "two")]

    assert all(target.is_dir() for target in targets)
    for target in targets:
        node.unpublish("p", target)
    assert ([], []) == node.mounts()


def test_the_state_may_be_at_a_relative_path_and_behind_a_link(tmp_path, model, parameters):
    """The list of mounts has neither: a mount that is not found there is never taken away."""
    link = tmp_path / "state"
    plugin = ("--state-dir", os.path.relpath(link))
    with a_node(allow=(f"file://{model}",), plugin=plugin) as node:
        node.state.mkdir()
        link.symlink_to(node.state)
        node.start().publish("p", parameters)

        sources, targets = node.mounts()
        assert (1, 1) == (len(sources), len(targets))
        node.unpublish("p")
        assert ([], []) == node.mounts()
        assert [] == os.listdir(node.state / "mounts")
