"""What node plugin and mounter say to each other: JSON messages, with descriptors, over a SEQPACKET socket.

Either may be new, or of another version. So the mounter begins with what it holds, and every message says all
there is to know of a mount: being told twice changes nothing.

From the mounter: `held` (a mount it serves, with all that the other side needs to go on without it), `known`
(that was all), `agreed` (the reply the kernel got to INIT), `serving` (a worker does), `progress` (files and
bytes), `failed` (why nobody serves it any more, or never did).

From the node plugin: `serve` (a mount, its descriptors, what to mount with), `access` (other credentials),
`end`.
"""

import logging
import select
import socket
import struct
import threading
from enum import StrEnum
from typing import Any

from lazyfs.supervisor.messages import Control, Message

log = logging.getLogger(__name__)

SEND_WAIT_MS = 5000


class Said(StrEnum):
    """What a message says; see the module's docstring."""

    HELD = "held"
    KNOWN = "known"
    AGREED = "agreed"
    SERVING = "serving"
    PROGRESS = "progress"
    FAILED = "failed"
    SERVE = "serve"
    ACCESS = "access"
    END = "end"


class Link:
    """One end. Any thread may send; one receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._control = Control(sock)
        self._lock = threading.Lock()

    def send(self, kind: Said, fields: dict[str, Any], fds: tuple[int, ...] = ()) -> bool:
        """Send a message; False when the other side is gone. One that does not listen is as good as gone."""
        with self._lock:
            poller = select.poll()
            poller.register(self._control.sock, select.POLLOUT)
            if poller.poll(SEND_WAIT_MS) and self._control.send(kind, fields, fds):
                return True
        self.close()
        return False

    def receive(self) -> Message | None:
        """Return the next message; None when the other side is gone."""
        try:
            return self._control.receive()
        except OSError:
            return None

    def close(self) -> None:
        """End it; whoever receives is told."""
        try:
            self._control.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def peer(self) -> int:
        """Return the user id of the other side (SO_PEERCRED)."""
        said = self._control.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid: int = struct.unpack("3i", said)[1]
        return uid

    def let_go(self) -> None:
        """Close the socket, once nobody receives any more."""
        self._control.close()


def dial(path: str, timeout_s: float) -> Link | None:
    """Connect to the mounter at `path`; None when there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(timeout_s)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        return None
    return Link(sock)
