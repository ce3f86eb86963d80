"""Which volume capabilities are served: directories, by any access mode, though always read-only. Pure."""

from collections.abc import Iterable

from lazyfs_csi.answers import invalid
from lazyfs_csi.wire import csi_pb2

_MODES = csi_pb2.VolumeCapability.AccessMode
SERVED = {
    _MODES.SINGLE_NODE_WRITER,  # what the kubelet says of every inline volume
    _MODES.SINGLE_NODE_READER_ONLY,
    _MODES.MULTI_NODE_READER_ONLY,
    _MODES.MULTI_NODE_SINGLE_WRITER,
    _MODES.MULTI_NODE_MULTI_WRITER,
}

SO_ANYWAY = {"ro", "read-only", "nosuid", "nodev", "noatime", "allow-other", "allow_other"}
"""Mount options that ask for what every mount is."""


def fault_of(capability: csi_pb2.VolumeCapability) -> str | None:
    """Return why a capability is not served; None when it is."""
    if capability.WhichOneof("access_type") == "block":
        return "a model is a directory, not a block device: use volumeMode Filesystem"
    if capability.access_mode.mode not in SERVED:
        return f"access mode {_name_of(capability.access_mode.mode)} is not served: use ReadOnlyMany"
    others = [flag for flag in capability.mount.mount_flags if flag not in SO_ANYWAY]
    if others:
        return f"there is no mount option {others[0]}: what a volume shows is said by attributes"
    return None


def _name_of(mode: int) -> str:
    """Return what CSI calls a mode; a later version of it has modes that are only numbers here."""
    return _MODES.Mode.Name(mode) if mode in _MODES.Mode.values() else str(mode)


def require(capabilities: Iterable[csi_pb2.VolumeCapability]) -> None:
    """Check that there are capabilities, and that all are served.

    Raises:
        Refused: INVALID_ARGUMENT.

    """
    found = list(capabilities)
    if not found:
        raise invalid("the request has no volume capability")
    for fault in map(fault_of, found):
        if fault is not None:
            raise invalid(fault)
