import pytest

from lazyfs_csi.capabilities import fault_of
from lazyfs_csi.wire import csi_pb2


def with_options(*flags):
    mode = csi_pb2.VolumeCapability.AccessMode.MULTI_NODE_READER_ONLY
    return csi_pb2.VolumeCapability(mount={"mount_flags": flags}, access_mode={"mode": mode})


def test_mount_options_that_ask_for_what_is_so_anyway_are_taken():
    assert fault_of(with_options("ro", "allow-other")) is None


@pytest.mark.parametrize("option", ["prefix models/", "rw", "region us-east-1"])
def test_a_mount_option_that_would_be_passed_over_is_refused_by_its_name(option):
    """Mountpoint's `prefix`, passed over, would show the whole bucket."""
    said = fault_of(with_options("ro", option))

    assert f"there is no mount option {option}: what a volume shows is said by attributes" == said


def test_an_access_mode_of_a_later_version_of_csi_is_refused_by_its_number():
    mode = csi_pb2.VolumeCapability.AccessMode(mode=99)

    said = fault_of(csi_pb2.VolumeCapability(mount={}, access_mode=mode))

    assert "access mode 99 is not served: use ReadOnlyMany" == said
