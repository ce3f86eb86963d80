"""Between the kernel and pyfuse3: answers READ itself, and carries everything else back and forth.

pyfuse3 gets one end of a socket pair as its "device". Why READ does not go through it (docs/adr/0007):

* pyfuse3 copies a reply into the kernel holding the interpreter lock: while 1 MiB is copied no lane receives.
  Here the copy is a `writev` that lets go of the lock, and a read from memory is answered without a task
  switch.
* libfuse reads requests with a blocking read after a poll. If the caller of a request dies in between, that
  read stops the whole process. Here the descriptor does not block, and on a socket pair no message vanishes.
* A killed reader would wait in the kernel until its bytes have come. Here INTERRUPT ends its wait.
* The number of background requests can be set in the reply to INIT, which needs no privilege.
* INIT, which the kernel sends once, can be shown to each pyfuse3 that takes a mount over (`session`).
"""

import errno
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3
import trio

from lazyfs.fuse import wire
from lazyfs.fuse.intake import Intake
from lazyfs.fuse.operations import Operations, errno_of
from lazyfs.fuse.sender import Sender
from lazyfs.telemetry.metrics import Meter

DIRECTORY_BYTES_MAX = 64 << 10
"""A reply must fit into one message of the socket pair."""
MAX_BACKGROUND = 1024
BURST = 16
"""Requests answered before other tasks get a turn."""
SIGKILL_BIT = 1 << 8
WATCH_S = 0.2
DRAIN_S, DRAIN_TICK_S = 5.0, 0.01
"""How long a courier that is relieved goes on answering what it has taken."""
WAITS_MAX = 1000
"""So many reads that wait are told of, the oldest first: a message is not endless."""
UNSEEN_PATIENCE_S = 10.0
"""So long an interrupted read goes on waiting when nobody can tell whether its caller is being killed."""

ReadNow = Callable[[int, int, int], memoryview | bytes | None]
"""Inode, offset, size -> the bytes if they are in memory; None if it takes waiting. Raises `LazyfsError`."""
ReadLater = Callable[[int, int, int, float | None], Awaitable[memoryview | bytes]]
"""The same, and since when its reader waits (`time.monotonic()`), if somebody else has let it wait before."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The kernel's INIT message, and whom to give the reply to; requests are taken when that returns.

    `agree` returns where workers that are gone have left requests (`intake`); `waits` are the reads that one
    of them was still to answer: `unique`, and since when.
    """

    init: bytes
    agree: Callable[[bytes], Awaitable[Iterable[int]]]
    intake: Intake = field(default_factory=Intake)
    waits: Mapping[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Waiting:
    """A read that waits for its bytes; `thread` is its caller, `inherited_s` since when of another worker."""

    unique: int
    thread: int
    wanted: wire.ReadRequest
    inherited_s: float | None
    began_s: float = field(default_factory=time.monotonic)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def since_s(self) -> float:
        """Since when its reader waits."""
        return self.began_s if self.inherited_s is None else self.inherited_s


class Courier:
    """Serves one channel."""

    def __init__(
        self,
        fd: int,
        handshake: Handshake,
        operations: Operations,
        read_now: ReadNow,
        read_later: ReadLater,
        meter: Meter,
    ) -> None:
        self._fd = fd
        self._handshake = handshake
        self._intake = handshake.intake
        self._operations = operations
        self._read_now = read_now
        self._read_later = read_later
        self._meter = meter
        self._sender = Sender(fd, self._intake.answered)
        self._waiting: dict[int, _Waiting] = {}
        self._carried: set[int] = set()
        """The requests pyfuse3 has and has not replied to."""
        self._taking = trio.CancelScope()
        self._to_take_over, self._taken_over = trio.open_memory_channel[Iterable[int]](math.inf)
        self.unanswered_count = 0
        """How many requests were taken and not answered, once it has been drained."""

    async def run(self) -> bool:
        """Serve until the file system is unmounted, `drain` is called, or this is cancelled.

        Closes the descriptor; if nobody else holds it, whoever still waits then gets an error. Returns
        whether it was drained.
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
                    left = await self._introduce(pipe)
                    nursery.start_soon(self._carry_replies, pipe)
                    with self._taking:
                        self.take_over(left)
                        nursery.start_soon(self._take_over, nursery, pipe)
                        await self._take_requests(nursery, pipe)
                    if self._taking.cancelled_caught:
                        await self._answer_the_rest()
                    nursery.cancel_scope.cancel()
            finally:
                pyfuse3.close(unmount=False)
        finally:
            if self._sender.close():
                os.close(self._fd)
            ours.close()
        return self._taking.cancelled_caught

    def drain(self) -> None:
        """Take no more requests, answer those that were taken, and end. Somebody else takes over."""
        self._taking.cancel()

    @property
    def waits(self) -> dict[int, tuple[float, int, int, int]]:
        """The reads that wait, by `unique`: what one that takes over must know.

        Of each since when, by `time.monotonic()`, its inode, offset and size.
        """
        waiting = sorted(self._waiting.values(), key=lambda read: read.since_s)[:WAITS_MAX]
        return {
            wire.first_unique(read.unique): (
                read.since_s, read.wanted.handle, read.wanted.offset, read.wanted.size
            )
            for read in waiting
        }  # fmt: skip

    async def _answer_the_rest(self) -> None:
        with trio.move_on_after(DRAIN_S):
            while self._unanswered():  # noqa: ASYNC110 - of three kinds, and only once in its life
                await trio.sleep(DRAIN_TICK_S)
        # Now, before their tasks are cancelled and are no more.
        self.unanswered_count = self._unanswered()

    def _unanswered(self) -> int:
        return len(self._waiting) + len(self._carried) + self._sender.statistics().unwritten

    async def _introduce(self, pipe: trio.socket.SocketType) -> Iterable[int]:
        """Have pyfuse3 answer INIT, and wait until that answer is agreed with."""
        await pipe.send(self._handshake.init)
        reply = await pipe.recv(wire.REQUEST_BYTES_MAX)
        return await self._handshake.agree(wire.adjust_init(reply, MAX_BACKGROUND))

    def take_over(self, regions: Iterable[int]) -> None:
        """Have what others have left unanswered there answered, once this one serves."""
        self._to_take_over.send_nowait(regions)

    async def _take_over(self, nursery: trio.Nursery, pipe: trio.socket.SocketType) -> None:
        async for regions in self._taken_over:
            for message in self._intake.left(regions):
                await self._dispatch(message, nursery, pipe)

    async def _take_requests(self, nursery: trio.Nursery, pipe: trio.socket.SocketType) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            for _ in range(BURST):
                if self._taking.cancel_called:
                    break
                try:
                    length = os.readv(self._fd, self._intake.buffers())
                except BlockingIOError:
                    break
                except OSError as error:
                    self._intake.spoilt()
                    if error.errno in wire.ENDED:
                        return
                    if error.errno in {errno.ENOENT, errno.EINTR}:
                        continue  # the request was taken back while it was being read
                    raise
                await self._dispatch(self._intake.took(length), nursery, pipe)
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
            self._intake.answered(head.unique)
            if waiting is not None:
                nursery.start_soon(self._end_if_dying, waiting)
        elif head.opcode in {wire.FORGET, wire.BATCH_FORGET}:
            self._intake.answered(head.unique)  # nodes live as long as the mount
        else:
            if head.opcode in {wire.READDIR, wire.READDIRPLUS}:
                wire.limit_size(message, DIRECTORY_BYTES_MAX)
            self._carried.add(head.unique)
            # It was taken, so it must be carried, also by one that is being relieved.
            with trio.move_on_after(DRAIN_S, shield=True):
                await pipe.send(message)

    async def _carry_replies(self, pipe: trio.socket.SocketType) -> None:
        while True:
            reply = await pipe.recv(wire.REQUEST_BYTES_MAX)
            if not reply:
                return
            self._carried.discard(wire.reply_unique(reply))
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
            inherited_s = self._handshake.waits.get(wire.first_unique(unique))
            waiting = self._waiting[unique] = _Waiting(unique, head.pid, wanted, inherited_s)
            nursery.start_soon(self._wait_and_read, waiting, wanted)

    async def _wait_and_read(self, waiting: "_Waiting", wanted: wire.ReadRequest) -> None:
        unique = waiting.unique
        try:
            with waiting.scope:
                content = await self._read_later(
                    wanted.handle, wanted.offset, wanted.size, waiting.inherited_s
                )
                self._sender.send([wire.reply_header(unique, len(content)), content])
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(unique, error)
        finally:
            # The same request may have been sent again (FUSE_NOTIFY_RESEND), and wait under the same name.
            if self._waiting.get(unique) is waiting:
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
