"""Somebody aborts the connection of a mount: its readers get errors, and it ends in an orderly way."""

import os
import signal
import subprocess
from contextlib import suppress

import pytest

from lazyfs.fuse.mountinfo import mounted_at
from tests.e2e.mounting import mounted
from tests.e2e.test_outlives import MAIN, SHARDS, reading
from tests.faults.aborting import ABORT_ERROR, abort

pytestmark = pytest.mark.skipif(bool(os.geteuid()), reason="only root can abort")

KERNELS = pytest.mark.parametrize("kernel", [ABORT_ERROR, ""], ids=["ECONNABORTED", "ENODEV"])


def ended(mount):
    mount.process.wait(20)
    last = mount.log.splitlines()[-1]
    why = f"lazyfs: the connection of {mount.path} was aborted: its readers got errors; mount it again"
    assert (1, why) == (mount.process.returncode, last), mount.log
    assert (1, 1) == (len(mount.logged("connection_aborted")), len(mount.logged("unmounted")))
    assert "Traceback" not in mount.log, mount.log
    assert mounted_at(mount.path) is None


@KERNELS
def test_a_mount_whose_connection_is_aborted_ends_and_says_so(hosted, slow_link, mnt, cache_dir, kernel):
    program, options = ("-c", kernel + MAIN), ("--cache-dir", cache_dir)
    with mounted(hosted.address, mnt, *options, program=program, clean=False) as mount:
        readers = [reading(mnt / name, how) for name in SHARDS for how in ("pread", "mmap")]
        mount.wait_for(lambda status: status["oldest_wait_s"] > 0)

        abort(mounted_at(mnt).device)

        for reader in readers:
            reader.communicate(timeout=20)
            assert reader.returncode, "an error, or SIGBUS for who had it mapped"
        ended(mount)


@KERNELS
def test_so_does_one_that_another_worker_is_about_to_take_over(hosted, slow_link, mnt, cache_dir, kernel):
    program, options = ("-c", kernel + MAIN), ("--cache-dir", cache_dir)
    with mounted(hosted.address, mnt, *options, program=program, clean=False) as mount:
        mount.process.send_signal(signal.SIGHUP)
        mount.wait_for_log("upgrade_began")

        abort(mounted_at(mnt).device)

        ended(mount)


def test_who_forces_an_unmount_of_a_mount_in_use_aborts_it(hosted, slow_link, mnt, cache_dir):
    """umount -f: the kernel aborts the connection first, and only then finds the mount busy."""
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, clean=False) as mount:
        with suppress(OSError), (mnt / "config.json").open():
            forced = subprocess.run(["umount", "-f", mnt], capture_output=True, text=True, check=False)

        assert (32, True) == (forced.returncode, "busy" in forced.stderr)
        ended(mount)
