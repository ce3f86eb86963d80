"""How the kubelet learns of this plugin, without node-driver-registrar: a socket where it looks for them."""

import logging

import grpc

from lazyfs_csi.wire import registration_pb2, registration_pb2_grpc

log = logging.getLogger(__name__)

SUPPORTED = ["1.0.0"]
"""Versions of CSI, as the kubelet understands them: it only looks at the first number."""


class Registration(registration_pb2_grpc.RegistrationServicer):
    """Answers the kubelet."""

    def __init__(self, driver_name: str, endpoint: str) -> None:
        """`endpoint` is the path of the driver's socket, as the kubelet sees it."""
        self._name = driver_name
        self._endpoint = endpoint

    def GetInfo(  # noqa: N802
        self, _request: registration_pb2.InfoRequest, _context: grpc.ServicerContext
    ) -> registration_pb2.PluginInfo:
        """Return what this is, and where."""
        return registration_pb2.PluginInfo(
            type="CSIPlugin", name=self._name, endpoint=self._endpoint, supported_versions=SUPPORTED
        )

    def NotifyRegistrationStatus(  # noqa: N802
        self, request: registration_pb2.RegistrationStatus, _context: grpc.ServicerContext
    ) -> registration_pb2.RegistrationStatusResponse:
        """Take note of what the kubelet made of it."""
        if request.plugin_registered:
            log.info("registered driver=%r", self._name)
        else:
            log.error("registration_refused driver=%r error=%r", self._name, request.error)
        return registration_pb2.RegistrationStatusResponse()
