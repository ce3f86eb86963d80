"""Between the kernel and pyfuse3: answers READ itself, and carries everything else back and forth.

pyfuse3 gets one end of a socket pair as its "device". Why READ does not go through it (docs/adr/0007):

* pyfuse3 copies a reply into the kernel holding the interpreter lock: while 1 MiB is copied no lane receives.
  Here the copy is a `writev` that lets go of the lock, and a read from memory is answered without a task
  switch.
* libfuse reads requests with a blocking read after a poll. If the caller of a request dies in between, that
  read stops the whole process. Here the descriptor does not block, and on a socket pair no message vanishes.
* A killed reader would wait in the kernel until its bytes have come. Here INTERRUPT ends its wait.
* The number of background requests can be set in the reply to INIT, which needs no privilege.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3
import trio

from lazyfs.fuse import wire
from lazyfs.fuse.operations import Operations, errno_of
from lazyfs.fuse.sender import Sender
from lazyfs.telemetry.metrics import Meter

REQUEST_BYTES_MAX = (1 << 20) + (1 << 16)
"""The kernel insists on room for the largest write it could send, and its header."""
DIRECTORY_BYTES_MAX = 64 << 10
"""A reply must fit into one message of the socket pair."""
MAX_BACKGROUND = 1024
BURST = 16
"""Requests answered before other tasks get a turn."""
SIGKILL_BIT = 1 << 8
WATCH_S = 0.2
UNSEEN_PATIENCE_S = 10.0
"""So long an interrupted read goes on waiting when nobody can tell whether its caller is being killed."""

ReadNow = Callable[[int, int, int], memoryview | bytes | None]
"""Inode, offset, size -> the bytes if they are in memory; None if it takes waiting. Raises `LazyfsError`."""
ReadLater = Callable[[int, int, int], Awaitable[memoryview | bytes]]


@dataclass(slots=True)
class _Waiting:
    """A read that waits for its bytes; `thread` is its caller."""

    unique: int
    thread: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Courier:
    """Serves one channel."""

    def __init__(
        self, fd: int, operations: Operations, read_now: ReadNow, read_later: ReadLater, meter: Meter
    ) -> None:
        self._fd = fd
        self._operations = operations
        self._read_now = read_now
        self._read_later = read_later
        self._meter = meter
        self._sender = Sender(fd)
        self._waiting: dict[int, _Waiting] = {}
        self._init_unique: int | None = None

    async def run(self) -> None:
        """Serve until the file system is unmounted, or this is cancelled; closes the descriptor.

        Whoever still waits then gets an error instead of waiting for ever.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.set_blocking(self._fd, False)
            # libfuse closes the descriptor it is given.
            pyfuse3.init(self._operations, f"/dev/fd/{theirs.detach()}", set(pyfuse3.default_options))
            try:
                async with trio.open_nursery() as nursery:
                    pipe = trio.socket.from_stdlib_socket(ours)
                    nursery.start_soon(pyfuse3.main)
                    nursery.start_soon(self._carry_replies, pipe)
                    await self._take_requests(nursery, pipe)
                    nursery.cancel_scope.cancel()
            finally:
                pyfuse3.close(unmount=False)
        finally:
            self._sender.close()
            os.close(self._fd)
            ours.close()

    async def _take_requests(self, nursery: trio.Nursery, pipe: trio.socket.SocketType) -> None:
        buffer = bytearray(REQUEST_BYTES_MAX)
        view = memoryview(buffer)
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            for _ in range(BURST):
                try:
                    length = os.readv(self._fd, [buffer])
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return  # unmounted, or aborted
                    if error.errno in {errno.ENOENT, errno.EINTR}:
                        continue  # the request was taken back while it was being read
                    raise
                await self._dispatch(view[:length], nursery, pipe)
            else:
                await trio.lowlevel.checkpoint()

    async def _dispatch(
        self, message: memoryview, nursery: trio.Nursery, pipe: trio.socket.SocketType
    ) -> None:
        head = wire.request(message)
        if head.opcode == wire.READ:
            self._read(nursery, head, wire.read_request(message))
        elif head.opcode == wire.INTERRUPT:
            waiting = self._waiting.get(wire.interrupted(message))
            if waiting is not None:
                nursery.start_soon(self._end_if_dying, waiting)
        elif head.opcode not in {wire.FORGET, wire.BATCH_FORGET}:  # nodes live as long as the mount
            if head.opcode in {wire.READDIR, wire.READDIRPLUS}:
                wire.limit_size(message, DIRECTORY_BYTES_MAX)
            elif head.opcode == wire.INIT:
                self._init_unique = head.unique
            await pipe.send(message)

    async def _carry_replies(self, pipe: trio.socket.SocketType) -> None:
        while True:
            reply = await pipe.recv(REQUEST_BYTES_MAX)
            if not reply:
                return
            if wire.reply_unique(reply) == self._init_unique:
                reply, self._init_unique = wire.adjust_init(reply, MAX_BACKGROUND), None
            self._sender.send([reply])

    # -- reads ---------------------------------------------------------------------------------------

    def _read(self, nursery: trio.Nursery, head: wire.Request, wanted: wire.ReadRequest) -> None:
        unique = head.unique
        try:
            content = self._read_now(wanted.handle, wanted.offset, wanted.size)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader gets an errno
            self._refuse(unique, error)
            return
        if content is not None:
            self._sender.send([wire.reply_header(unique, len(content)), content])
        else:
            waiting = self._waiting[unique] = _Waiting(unique, head.pid)
            nursery.start_soon(self._wait_and_read, waiting, wanted)

    async def _wait_and_read(self, waiting: "_Waiting", wanted: wire.ReadRequest) -> None:
        unique = waiting.unique
        try:
            with waiting.scope:
                content = await self._read_later(wanted.handle, wanted.offset, wanted.size)
                self._sender.send([wire.reply_header(unique, len(content)), content])
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(unique, error)
        finally:
            del self._waiting[unique]
        if waiting.scope.cancelled_caught:
            self._sender.send([wire.error_reply(unique, errno.EINTR)])

    async def _end_if_dying(self, waiting: "_Waiting") -> None:
        """End an interrupted read once its caller is being killed: it cannot die before it has an answer.

        Any signal interrupts, and the kernel says so only once; but a read of a file is not expected to end
        with EINTR for a signal that does not kill. So this watches, for as long as the read waits.
        """
        unseen_s = 0.0
        while waiting.unique in self._waiting and unseen_s < UNSEEN_PATIENCE_S:
            dying = _is_dying(waiting.thread)
            if dying:
                break
            unseen_s += WATCH_S if dying is None else 0.0
            await trio.sleep(WATCH_S)
        waiting.scope.cancel()

    def _refuse(self, unique: int, error: Exception) -> None:
        self._sender.send([wire.error_reply(unique, errno_of(error, "read", self._meter))])


def _is_dying(thread: int) -> bool | None:
    """Tell whether a SIGKILL waits for a thread; None when it cannot be seen, being in another namespace."""
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return None
    pending = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(int(signals, 16) & SIGKILL_BIT for signals in pending)
