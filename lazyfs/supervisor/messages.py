"""What the supervisor and its worker say to each other: JSON messages, with descriptors, over a socket pair.

The two may be of different versions, after an upgrade: what a message has beyond what is known is ignored.

To the worker: `mount` (what to serve, and how), `serve` (the FUSE descriptor and the kernel's INIT message),
`go` (take requests now), `ready` (what the supervisor has found out about the mount), `undone` (answer what
one that is gone has left), `access` (other credentials from now on), `drain` (another one takes over: answer
what you have, then end), `end`.

From the worker: `prepared`, `failed` (why it cannot serve), `reply` (to INIT), `serving`, `ready` (with its
status), `beat` (a few times a second: its loop runs, so much of the model is here, and who waits), `drained`,
`unmounted`.
"""

import array
import json
import os
import socket
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MESSAGE_BYTES_MAX = 1 << 18
"""Well above the options of a mount; the kernel's own limit for a message is about the same."""
FDS_MAX = 4


class Kind(StrEnum):
    """What a message says; see the module's docstring."""

    MOUNT = "mount"
    SERVE = "serve"
    GO = "go"
    READY = "ready"
    UNDONE = "undone"
    ACCESS = "access"
    DRAIN = "drain"
    END = "end"
    PREPARED = "prepared"
    FAILED = "failed"
    REPLY = "reply"
    SERVING = "serving"
    BEAT = "beat"
    DRAINED = "drained"
    UNMOUNTED = "unmounted"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; whoever receives it owns `fds`."""

    kind: str
    fields: dict[str, Any]
    fds: tuple[int, ...] = field(default=())


class Control:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES_MAX)

    def send(self, kind: str, fields: dict[str, Any] | None = None, fds: tuple[int, ...] = ()) -> bool:
        """Send a message; False when the other end is gone, or so far behind that it is as good as gone."""
        content = json.dumps({"kind": kind, **(fields or {})}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.sock.sendmsg([content], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def receive(self) -> Message | None:
        """Return the next message; None when the other end is gone.

        Raises:
            BlockingIOError: when there is none now and the socket does not block.

        """
        size = array.array("i").itemsize
        try:
            content, ancillary, _, _ = self.sock.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(FDS_MAX * size))
        except ConnectionError:
            return None
        if not content:
            return None
        fds = array.array("i")
        for level, kind, received in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(received[: len(received) // size * size])
        for fd in fds:
            os.set_inheritable(fd, False)
        fields = json.loads(content)
        return Message(fields.pop("kind"), fields, tuple(fds))

    def close(self) -> None:
        """Close this end."""
        self.sock.close()
