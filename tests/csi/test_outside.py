"""The driver as csi-sanity is run against it: started by hand, with targets that no kubelet has chosen.

Node and controller are two processes; the programs share this mount namespace; the directory above the target
is made before each check and removed after it, as csi-sanity does, which fails when anything is left there.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import grpc
import pytest

from lazyfs.fuse.mountinfo import lazyfs_mounts
from lazyfs_csi.wire import csi_pb2 as csi
from lazyfs_csi.wire import csi_pb2_grpc
from tests.csi.rig import START_S, Process, capability

PATHS = os.pathsep.join(path for path in sys.path if path)


@pytest.fixture
def place():
    """A directory whose name is short enough for sockets."""
    found = Path(tempfile.mkdtemp(prefix="lfs-", dir="/tmp"))
    yield found
    shutil.rmtree(found)


@pytest.fixture
def programs(place, model):
    commands = {
        "mounter": ["lazyfs_csi.mounter", "--socket", f"{place}/mounter/mounter.sock",
                    "--cache-dir", f"{place}/cache", "--cache-size", "1GiB", "--allow-source", f"file://{model}"],
        "node": ["lazyfs_csi", "--mode", "node", "--endpoint", f"unix://{place}/node.sock",
                 "--node-id", "here", "--kubelet-dir", f"{place}/kubelet",
                 "--mounter", f"unix://{place}/mounter/mounter.sock"],
        "controller": ["lazyfs_csi", "--mode", "controller", "--endpoint", f"unix://{place}/controller.sock"],
    }  # fmt: skip
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "LAZYFS_"))}
    running = [
        Process(name, [sys.executable, "-m", *command], plain | {"PYTHONPATH": PATHS}, place / f"{name}.log")
        for name, command in commands.items()
    ]
    for process in running:
        process.start()
    yield
    for process in running:
        process.end()
        assert "Traceback" not in process.log


@pytest.fixture
def channels(programs, place):
    with (
        grpc.insecure_channel(f"unix:{place}/node.sock") as node,
        grpc.insecure_channel(f"unix:{place}/controller.sock") as controller,
    ):
        for channel in (node, controller):
            probe = csi_pb2_grpc.IdentityStub(channel).Probe
            assert probe(csi.ProbeRequest(), wait_for_ready=True, timeout=START_S).ready.value
        yield node, controller


def test_volumes_are_shown_wherever_they_are_wanted_and_nothing_is_left(channels, place, model):
    node, controller = csi_pb2_grpc.NodeStub(channels[0]), csi_pb2_grpc.ControllerStub(channels[1])
    parent = place / "csi-mount"
    target = parent / "target"

    for name in ("sanity-node-full-1", "sanity-node-full-10"):
        parent.mkdir()
        volume = controller.CreateVolume(
            csi.CreateVolumeRequest(
                name=name, volume_capabilities=[capability()], parameters={"source": f"file://{model}"},
                capacity_range={"required_bytes": 10 << 30, "limit_bytes": 10 << 30},
            )
        ).volume  # fmt: skip
        publish = csi.NodePublishVolumeRequest(
            volume_id=volume.volume_id, target_path=str(target), volume_capability=capability(),
            volume_context=volume.volume_context,
        )  # fmt: skip
        for _ in range(10):
            node.NodePublishVolume(publish, timeout=30)
        assert sorted(os.listdir(model)) == sorted(os.listdir(target))
        assert 2 == len([one for one in lazyfs_mounts() if one.mountpoint.startswith(f"{place}/")])
        stats = csi.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path=str(target))
        assert node.NodeGetVolumeStats(stats).usage
        for volume_id in (volume.volume_id, volume.volume_id, "never-published"):
            node.NodeUnpublishVolume(
                csi.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=str(target)), timeout=30
            )
        controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=volume.volume_id))
        parent.rmdir()
        assert [] == [one for one in lazyfs_mounts() if one.mountpoint.startswith(f"{place}/")]
