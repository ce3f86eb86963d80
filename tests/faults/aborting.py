"""Aborting a FUSE connection from outside, and a kernel that says so with either of its two errors."""

import subprocess
from pathlib import Path

from lazyfs.fuse.session import CONNECTIONS

ABORT_ERROR = """
import struct
import lazyfs.fuse.session as session
def settle(self, reply, _settle=session.Session.settle):
    changed = bytearray(reply)
    (flags,) = struct.unpack_from("=I", changed, 28)
    struct.pack_into("=I", changed, 28, flags | 1 << 21)
    return _settle(self, bytes(changed))
session.Session.settle = settle
"""
"""Has the reply to INIT ask for FUSE_ABORT_ERROR: after an abort read(2) fails with ECONNABORTED, not ENODEV.

Without it a kernel says that only to who reads a request at the moment of the abort (fuse_dev_do_read).
"""


def abort(device: str) -> None:
    """Abort the connection of the mount with this device, `0:N`."""
    file = Path(CONNECTIONS, device.rpartition(":")[2], "abort")
    if not file.exists():
        subprocess.run(["mount", "-t", "fusectl", "none", CONNECTIONS], check=True)
    file.write_text("1")
