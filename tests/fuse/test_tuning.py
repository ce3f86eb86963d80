import os
from pathlib import Path

import pytest

from lazyfs.fuse.mountinfo import Mounted
from lazyfs.fuse.tuning import READ_AHEADS, tune

UNTUNED = "reads stay at 128 KiB, a third of the speed; "


def test_what_is_given_to_containers_is_where_the_read_ahead_is_set():
    device = os.listdir(READ_AHEADS)[0]

    assert Path(READ_AHEADS, device) == Path("/sys/class/bdi", device).resolve()


def test_a_device_that_is_not_there_needs_sysfs():
    (said,) = tune(Mounted("/mnt", "0:999999", "", ""), 8 << 20)

    file = "/sys/class/bdi/0:999999/read_ahead_kb"
    cure = f"there is no {file}: mount sysfs (mount -t sysfs sysfs /sys)"
    assert f"read-ahead could not be set (No such file or directory): {UNTUNED}{cure}" == said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_needs_root():
    device = os.listdir(READ_AHEADS)[0]
    os.seteuid(65534)
    try:
        (said,) = tune(Mounted("/mnt", device, "", ""), 8 << 20)
    finally:
        os.seteuid(0)

    cure = f"run as root, or have root write 8192 to /sys/class/bdi/{device}/read_ahead_kb"
    assert f"read-ahead could not be set (Permission denied): {UNTUNED}{cure}" == said
