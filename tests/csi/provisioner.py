"""csi-provisioner as it is (external-provisioner v6.3, pkg/controller/controller.go): the calls it makes, in
their order, with all it passes, and the PersistentVolume it makes of the answer.
"""

import random
import time
import uuid
from dataclasses import dataclass, field

from lazyfs_csi.wire import csi_pb2 as csi
from lazyfs_csi.wire import csi_pb2_grpc
from tests.csi.rig import ACCESS_MODES

RESERVED = "csi.storage.k8s.io/"


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim."""

    name: str = "llama"
    namespace: str = "team-a"
    access_modes: tuple[str, ...] = ("ReadOnlyMany",)
    size: int = 10 << 30
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class PersistentVolume:
    """What of a PersistentVolume the kubelet passes on."""

    name: str
    handle: str
    attributes: dict[str, str]
    access_modes: tuple[str, ...] = ("ReadOnlyMany",)
    mount_options: tuple[str, ...] = ()
    fs_type: str = ""
    read_only: bool = False


class Provisioner:
    """One that runs, with the chart's options: `--extra-create-metadata --controller-publish-readonly`."""

    def __init__(self, channel):
        self._identity = csi_pb2_grpc.IdentityStub(channel)
        self._controller = csi_pb2_grpc.ControllerStub(channel)
        driver = self._identity.GetPluginInfo(csi.GetPluginInfoRequest()).name
        assert self._identity.Probe(csi.ProbeRequest()).ready.value
        self._identity.GetPluginCapabilities(csi.GetPluginCapabilitiesRequest())
        self._controller.ControllerGetCapabilities(csi.ControllerGetCapabilitiesRequest())
        self.identity = f"{time.time_ns() // 1_000_000}-{random.randrange(10_000)}-{driver}"

    def provision(self, claim, parameters, mount_options=(), fs_type="", secrets=None):
        """Make the volume of a claim, of a class with these parameters; return the PersistentVolume."""
        name = f"pvc-{claim.uid}"
        own = {key: value for key, value in parameters.items() if not key.startswith(RESERVED)}
        metadata = {
            f"{RESERVED}pvc/name": claim.name,
            f"{RESERVED}pvc/namespace": claim.namespace,
            f"{RESERVED}pv/name": name,
        }
        request = csi.CreateVolumeRequest(
            name=name, parameters=own | metadata, secrets=secrets or {},
            capacity_range={"required_bytes": claim.size},
            volume_capabilities=[
                {"mount": {"fs_type": fs_type, "mount_flags": mount_options},
                 "access_mode": {"mode": ACCESS_MODES[mode]}} for mode in claim.access_modes
            ],
        )  # fmt: skip
        volume = self._controller.CreateVolume(request, timeout=10).volume
        return PersistentVolume(
            name=name, handle=volume.volume_id,
            attributes={"storage.kubernetes.io/csiProvisionerIdentity": self.identity}
            | dict(volume.volume_context),
            access_modes=claim.access_modes, mount_options=tuple(mount_options), fs_type=fs_type,
            read_only=claim.access_modes == ("ReadOnlyMany",),
        )  # fmt: skip

    def delete(self, volume, secrets=None):
        """Delete a volume whose claim is gone."""
        request = csi.DeleteVolumeRequest(volume_id=volume.handle, secrets=secrets or {})
        self._controller.DeleteVolume(request, timeout=10)
