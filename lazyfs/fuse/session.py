"""A FUSE connection that outlives whoever serves it.

The kernel sends INIT once, when it is mounted. It is kept here, and every worker that takes the connection
over is shown it again: its reply must be the very one the kernel was given the first time.

What a worker had taken from the kernel when it died is asked for again with FUSE_NOTIFY_RESEND (linux/fuse.h;
since 6.9, offered in INIT). An older kernel is not asked: there the workers remember (`intake`).
"""

import ctypes
import logging
import os
import select
from pathlib import Path

from lazyfs.errors import FuseUnavailable, MountpointError
from lazyfs.fuse import wire
from lazyfs.fuse.channel import Channel

log = logging.getLogger(__name__)

CONNECTIONS = Path("/sys/fs/fuse/connections")
INIT_WAIT_MS = 5000
_libc = ctypes.CDLL(None, use_errno=True)


class Session:
    """The supervisor's end of a mounted channel."""

    def __init__(self, channel: Channel, init: bytes | None = None, agreed: bytes | None = None) -> None:
        """Take the INIT message. One who takes a session over has it already, and maybe the first reply.

        Raises:
            FuseUnavailable: when the kernel sends none.
            MountpointError: when it is not mounted any more.

        """
        self.channel = channel
        self.init = init if init is not None else _first_message(channel)
        self.resends = wire.offers_resend(self.init)
        """Whether the kernel can be asked to send again."""
        self.agreed = agreed
        """The reply the kernel was given."""

    def settle(self, reply: bytes) -> bool:
        """Give the kernel the first reply to INIT; of later ones tell whether they are the same.

        Raises:
            MountpointError: when it is not mounted any more.

        """
        if self.agreed is not None:
            return wire.content_of(reply) == wire.content_of(self.agreed)
        try:
            os.write(self.channel.fd, reply)
        except OSError:
            raise _taken_away(self.channel) from None
        self.agreed = reply
        return True

    def resend(self) -> None:
        """Have the kernel, if it can, send again what was taken and not answered."""
        try:
            os.write(self.channel.fd, wire.resend_notification())
        except OSError as error:
            if error.errno not in wire.ENDED:  # nobody waits any more
                log.warning("resend_failed error=%r", error.strerror)

    @property
    def over(self) -> bool:
        """Whether the mount is gone: unmounted, or its connection aborted."""
        poller = select.poll()
        poller.register(self.channel.fd, 0)
        return bool(poller.poll(0))

    def abort(self) -> None:
        """End the connection: whoever waits for it gets an error, also who is waiting unkillably."""
        directory = CONNECTIONS / self.channel.device.rpartition(":")[2]
        if not directory.exists() and os.geteuid() == 0:
            _libc.mount(b"none", os.fsencode(CONNECTIONS), b"fusectl", ctypes.c_ulong(0), None)
        try:
            (directory / "abort").write_text("1")
        except OSError as error:
            # Then it ends when the last descriptor is closed, ours and those of the workers.
            log.info("abort_by_closing error=%r", error.strerror)

    def close(self) -> None:
        """Close our descriptor. If it is the last one, the connection ends."""
        os.close(self.channel.fd)


def _first_message(channel: Channel) -> bytes:
    poller = select.poll()
    poller.register(channel.fd, select.POLLIN)
    if not poller.poll(INIT_WAIT_MS):
        raise FuseUnavailable("the kernel does not begin to talk", "try again; see the kernel's log")
    try:
        return os.read(channel.fd, wire.REQUEST_BYTES_MAX)
    except OSError:
        raise _taken_away(channel) from None


def _taken_away(channel: Channel) -> MountpointError:
    return MountpointError(
        f"{channel.mountpoint} was unmounted, or its connection aborted, while it was being mounted",
        "mount it again",
    )
