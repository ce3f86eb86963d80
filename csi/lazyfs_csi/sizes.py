"""The sizes that volumes were asked for with, as long as this process lives.

A model is as large as it is, whatever size a claim asks for, and csi-provisioner gives the claim that size.
But a volume of one name cannot have two: who asks for a second one is told (ALREADY_EXISTS), as CSI wants it
and csi-sanity checks. A process that has begun anew does not know the size before, and takes any.
"""

import threading

import grpc

from lazyfs_csi.answers import Refused
from lazyfs_csi.wire import csi_pb2

KNOWN_MAX = 10_000
"""So many are remembered: the oldest one is forgotten first."""


class Sizes:
    """Sizes in bytes, by volume id. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}

    def require(self, volume_id: str, wanted: csi_pb2.CapacityRange) -> None:
        """Check that a volume can have a size that is wanted, and remember the first one. Idempotent.

        Raises:
            Refused: ALREADY_EXISTS.

        """
        with self._lock:
            size = self._known.get(volume_id, 0)
            if not size:
                self._remember(volume_id, wanted.required_bytes or wanted.limit_bytes)
                return
        if size < wanted.required_bytes or 0 < wanted.limit_bytes < size:
            asked = wanted.required_bytes or wanted.limit_bytes
            raise Refused(
                grpc.StatusCode.ALREADY_EXISTS,
                f"volume {volume_id} exists with {size} bytes, and is asked for with {asked}",
            )

    def _remember(self, volume_id: str, size: int) -> None:
        if size <= 0:
            return
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[volume_id] = size

    def forget(self, volume_id: str) -> None:
        """Take note that a volume is deleted."""
        with self._lock:
            self._known.pop(volume_id, None)
