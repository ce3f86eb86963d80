"""Identity: who we are, what we can, whether we are ready."""

import grpc
from google.protobuf.wrappers_pb2 import BoolValue

from lazyfs import __version__
from lazyfs_csi.wire import csi_pb2, csi_pb2_grpc

_SERVICE = csi_pb2.PluginCapability.Service


class Identity(csi_pb2_grpc.IdentityServicer):
    """The same of every instance, be it on a node or the controller."""

    def __init__(self, driver_name: str) -> None:
        self._name = driver_name

    def GetPluginInfo(  # noqa: N802 - named by CSI, as those below
        self, _request: csi_pb2.GetPluginInfoRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.GetPluginInfoResponse:
        """Return name and version."""
        return csi_pb2.GetPluginInfoResponse(name=self._name, vendor_version=__version__)

    def GetPluginCapabilities(  # noqa: N802
        self, _request: csi_pb2.GetPluginCapabilitiesRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """Return that there is a controller."""
        service = _SERVICE(type=_SERVICE.CONTROLLER_SERVICE)
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=[csi_pb2.PluginCapability(service=service)])

    def Probe(  # noqa: N802
        self, _request: csi_pb2.ProbeRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.ProbeResponse:
        """Return that calls are answered: what waits for the mounter says so itself."""
        return csi_pb2.ProbeResponse(ready=BoolValue(value=True))
