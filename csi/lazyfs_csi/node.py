"""Node: volumes are shown to pods, and taken away again. No call here ever looks at a mount."""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from lazyfs.errors import MountpointError
from lazyfs_csi.answers import Refused, invalid
from lazyfs_csi.attributes import volume_of, without_reserved
from lazyfs_csi.binding import anywhere_at, bind, ours_at, settled, take_away
from lazyfs_csi.capabilities import require
from lazyfs_csi.credentials import environment_of, identity_of, key_of
from lazyfs_csi.mounts import Asked, Mounts
from lazyfs_csi.records import TargetRecord, VolumeRecord
from lazyfs_csi.targets import Targets
from lazyfs_csi.volume import Mount
from lazyfs_csi.wire import csi_pb2, csi_pb2_grpc

log = logging.getLogger(__name__)

MARGIN_S = 5.0
"""So long before its deadline a call is answered, or a quarter of its time before, if that is less."""
WAITING_MAX = 32
"""So many calls may wait for a source; threads are left for those that take volumes away."""
_RPC = csi_pb2.NodeServiceCapability.RPC
_UNIT = csi_pb2.VolumeUsage


@dataclass(frozen=True, slots=True)
class Terms:
    """What the node is called, how many volumes it may have (0: any number), and how long to wait, in s."""

    node_id: str
    volumes_max: int
    timeout_s: float
    salt: bytes


class Node(csi_pb2_grpc.NodeServicer):
    """What the kubelet calls."""

    def __init__(self, terms: Terms, mounts: Mounts, targets: Targets) -> None:
        self._terms = terms
        self._mounts = mounts
        self._targets = targets
        self._waiting = threading.BoundedSemaphore(WAITING_MAX)

    def NodePublishVolume(  # noqa: N802 - named by CSI, as those below
        self, request: csi_pb2.NodePublishVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodePublishVolumeResponse:
        """Show a volume at a target, once it answers. Asked again, take note of new credentials."""
        deadline_s = time.monotonic() + self._patience_s(context)
        if not request.volume_id:
            raise invalid("the request has no volume id")
        if not request.target_path:
            raise invalid("the request has no target path")
        if not request.HasField("volume_capability"):
            raise invalid("the request has no volume capability")
        require([request.volume_capability])
        with self._targets.alone(request.target_path) as path:
            known = self._targets.get(path)
            if known is not None and ours_at(path) is not None:
                self._again(request, path, known)
            else:
                self._publish(request, path, deadline_s, context.is_active)
        return csi_pb2.NodePublishVolumeResponse()

    def _patience_s(self, context: grpc.ServicerContext) -> float:
        left_s: float | None = context.time_remaining()  # none, without a deadline
        if left_s is None:
            return self._terms.timeout_s
        return min(self._terms.timeout_s, max(0.0, left_s - min(MARGIN_S, left_s / 4)))

    def _asked(self, secrets: Mapping[str, str], context: Mapping[str, str]) -> Asked:
        volume, environment = volume_of(context), environment_of(secrets)
        identity = identity_of(environment, context, self._terms.salt)
        return Asked(volume, environment, identity, key_of(volume, identity, self._terms.salt))

    def _again(self, request: csi_pb2.NodePublishVolumeRequest, path: Path, known: TargetRecord) -> None:
        """Answer for a volume that is shown already: never with an error that is about the volume."""
        if known.volume_id != request.volume_id or known.asked != _asked_for(request):
            raise Refused(
                grpc.StatusCode.ALREADY_EXISTS,
                f"{request.target_path} shows another volume, {known.volume_id}",
            )
        try:
            asked = self._asked(request.secrets, request.volume_context)
        except Exception as error:  # noqa: BLE001 - the kubelet would take the mount from under the pod
            log.warning("credentials_ignored volume=%r why=%r", request.volume_id, str(error))
            return
        if asked.identity != known.identity:
            self._mounts.renew(known.name, asked)
            self._targets.keep(path, replace(known, identity=asked.identity))

    def _publish(
        self, request: csi_pb2.NodePublishVolumeRequest, path: Path, deadline_s: float,
        wanted: Callable[[], bool],
    ) -> None:  # fmt: skip
        asked = self._asked(request.secrets, request.volume_context)
        mount = self._mounts.mount(asked)
        self._wait(mount, path, deadline_s, wanted)
        record = TargetRecord(
            str(path), request.volume_id, mount.record.name, _asked_for(request), asked.identity
        )
        try:
            if ours_at(path) is not None:
                take_away(path)
            self._targets.keep(path, record)
            bind(mount.path, path)
            _check(path, mount.record)
        except Exception:
            self._targets.forget(path)
            self._mounts.unshow(mount.record.name, path)
            raise

    def _wait(self, mount: Mount, path: Path, deadline_s: float, wanted: Callable[[], bool]) -> None:
        if not self._waiting.acquire(blocking=False):
            raise Refused(
                grpc.StatusCode.ABORTED,
                f"{WAITING_MAX} volumes of this node are being prepared; it is asked again",
            )
        try:
            done = self._mounts.wait(mount, path, max(0.0, deadline_s - time.monotonic()), wanted)
        finally:
            self._waiting.release()
        if not done and not self._mounts.linked:
            raise Refused(
                grpc.StatusCode.UNAVAILABLE,
                "the mounter of this node is not there; see the pods of the DaemonSet lazyfs-mounter",
            )
        if not done:
            raise Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"{mount.record.label} is still being listed; it is asked again",
            )

    def NodeUnpublishVolume(  # noqa: N802
        self, request: csi_pb2.NodeUnpublishVolumeRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        """Take a volume away from a target, whatever state it is in; the last one ends the mount."""
        if not request.volume_id:
            raise invalid("the request has no volume id")
        if not request.target_path:
            raise invalid("the request has no target path")
        with self._targets.alone(request.target_path) as path:
            try:
                take_away(path)
            finally:  # whatever else is there
                record = None if anywhere_at(path) else self._targets.forget(path)
                if record is not None:
                    self._mounts.unshow(record.name, path)
                self._mounts.give_up(path)
        return csi_pb2.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(  # noqa: N802
        self, request: csi_pb2.NodeGetVolumeStatsRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """Return how large the model is, and how much of it is on this node, as the mounter has said."""
        if not request.volume_id:
            raise invalid("the request has no volume id")
        if not request.volume_path:
            raise invalid("the request has no volume path")
        record = self._targets.get(settled(request.volume_path))
        if record is None or record.volume_id != request.volume_id:
            raise Refused(
                grpc.StatusCode.NOT_FOUND, f"volume {request.volume_id} is not shown at {request.volume_path}"
            )
        mount = self._mounts.find(record.name)
        progress = mount.progress if mount is not None else {"files": 0, "needed": 0, "local": 0}
        fault = self._mounts.condition(mount)
        return csi_pb2.NodeGetVolumeStatsResponse(
            usage=[
                csi_pb2.VolumeUsage(
                    unit=_UNIT.BYTES, total=progress["needed"], used=progress["local"],
                    available=progress["needed"] - progress["local"],
                ),
                csi_pb2.VolumeUsage(unit=_UNIT.INODES, total=progress["files"], used=progress["files"]),
            ],
            volume_condition=csi_pb2.VolumeCondition(abnormal=fault is not None, message=fault or "served"),
        )  # fmt: skip

    def NodeGetCapabilities(  # noqa: N802
        self, _request: csi_pb2.NodeGetCapabilitiesRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """Return that there are stats."""
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[
                csi_pb2.NodeServiceCapability(rpc=_RPC(type=kind))
                for kind in (_RPC.GET_VOLUME_STATS, _RPC.VOLUME_CONDITION)
            ]
        )

    def NodeGetInfo(  # noqa: N802
        self, _request: csi_pb2.NodeGetInfoRequest, _context: grpc.ServicerContext
    ) -> csi_pb2.NodeGetInfoResponse:
        """Return what the node is called."""
        return csi_pb2.NodeGetInfoResponse(
            node_id=self._terms.node_id, max_volumes_per_node=self._terms.volumes_max
        )


def _check(path: Path, record: VolumeRecord) -> None:
    """Check that a mount is shown, and not the empty directory it leaves when somebody unmounts it."""
    shown = ours_at(path)
    if shown is None or shown.device != record.device:
        raise MountpointError(f"{record.label} went while it was mounted", "try again")


def _asked_for(request: csi_pb2.NodePublishVolumeRequest) -> str:
    """Return a hash of what a volume was asked for with, but for what may change: its secrets."""
    own = without_reserved(request.volume_context)
    return hashlib.sha256(json.dumps([request.readonly, sorted(own.items())]).encode()).hexdigest()[:32]
