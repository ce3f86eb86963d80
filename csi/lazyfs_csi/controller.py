"""Controller: a volume of a StorageClass is nothing but its name and its attributes. Nothing is stored.

Deleting one never touches what it shows.
"""

import hashlib
from collections.abc import Callable, Mapping

import grpc

from lazyfs.errors import UsageError
from lazyfs_csi.answers import Refused, invalid
from lazyfs_csi.attributes import KUBERNETES, WAYS, filled_in, volume_of
from lazyfs_csi.capabilities import fault_of, require
from lazyfs_csi.sizes import Sizes
from lazyfs_csi.wire import csi_pb2, csi_pb2_grpc

PREFIX = "lazyfs-"
ID_MAX = 128
_RPC = csi_pb2.ControllerServiceCapability.RPC

Annotations = Callable[[str, str], Mapping[str, str]]
"""Given namespace and name of a claim, returns the attributes its annotations hold."""


def volume_id(name: str) -> str:
    """Return the id of a volume by the name it was asked for with: always the same."""
    plain = PREFIX + name
    return plain if len(plain) <= ID_MAX else PREFIX + hashlib.sha256(name.encode()).hexdigest()


class Controller(csi_pb2_grpc.ControllerServicer):
    """Makes volumes of claims. `annotations`, where the controller may read claims, has a say in it."""

    def __init__(self, annotations: Annotations | None = None) -> None:
        self._annotations = annotations
        self._sizes = Sizes()

    def CreateVolume(  # noqa: N802 - named by CSI, as those below
        self, request: csi_pb2.CreateVolumeRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.CreateVolumeResponse:
        """Return the volume; its attributes are those of the class, with what the claim says filled in."""
        if not request.name:
            raise invalid("the request has no name")
        require(request.volume_capabilities)
        if request.HasField("volume_content_source"):
            raise invalid("a volume cannot be made of a snapshot or of another volume: give a source")
        context = filled_in(request.parameters) | self._of_the_claim(request.parameters)
        volume_of(context)
        made = volume_id(request.name)
        self._sizes.require(made, request.capacity_range)
        volume = csi_pb2.Volume(capacity_bytes=0, volume_id=made, volume_context=context)
        return csi_pb2.CreateVolumeResponse(volume=volume)

    def _of_the_claim(self, parameters: Mapping[str, str]) -> dict[str, str]:
        if self._annotations is None:
            return {}
        namespace = parameters.get(f"{KUBERNETES}pvc/namespace", "")
        name = parameters.get(f"{KUBERNETES}pvc/name", "")
        if not namespace or not name:
            raise UsageError(
                "nobody says which claim this is for", "start csi-provisioner with --extra-create-metadata"
            )
        return dict(self._annotations(namespace, name))

    def DeleteVolume(  # noqa: N802
        self, request: csi_pb2.DeleteVolumeRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.DeleteVolumeResponse:
        """Do nothing but forget its size: there is nothing of it here, and the source is not ours."""
        if not request.volume_id:
            raise invalid("the request has no volume id")
        self._sizes.forget(request.volume_id)
        return csi_pb2.DeleteVolumeResponse()

    def ValidateVolumeCapabilities(  # noqa: N802
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        """Return whether the capabilities are served."""
        if not request.volume_id:
            raise invalid("the request has no volume id")
        if not request.volume_capabilities:
            raise invalid("the request has no volume capability")
        if not request.volume_id.startswith(PREFIX) and not set(WAYS) & set(request.volume_context):
            raise Refused(grpc.StatusCode.NOT_FOUND, f"there is no volume {request.volume_id}")
        answer = csi_pb2.ValidateVolumeCapabilitiesResponse
        for fault in map(fault_of, request.volume_capabilities):
            if fault is not None:
                return answer(message=fault)
        return answer(
            confirmed=answer.Confirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
                mutable_parameters=request.mutable_parameters,
            )
        )

    def ControllerGetCapabilities(  # noqa: N802
        self, _request: csi_pb2.ControllerGetCapabilitiesRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """Return that volumes can be made and deleted."""
        rpc = _RPC(type=_RPC.CREATE_DELETE_VOLUME)
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[csi_pb2.ControllerServiceCapability(rpc=rpc)]
        )
