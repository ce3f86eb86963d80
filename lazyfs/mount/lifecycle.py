"""What a worker does, from the moment its parts are put together until somebody else takes over, or none."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from lazyfs.core.blob import ByteRange
from lazyfs.fuse.courier import Courier, Handshake
from lazyfs.fuse.intake import Intake, RememberingIntake
from lazyfs.mount.access import renew
from lazyfs.mount.assembly import Parts
from lazyfs.mount.snapshot import Sources
from lazyfs.supervisor.messages import Control, Kind, Message
from lazyfs.supervisor.privileges import relax
from lazyfs.telemetry.status import Phase, Status, from_json

if TYPE_CHECKING:
    from lazyfs.telemetry.endpoint import Endpoint

log = logging.getLogger(__name__)

GARBAGE_THRESHOLD = 700
"""Python's own: an error caught in a circle of frames may hold blocks."""
BEAT_S = 0.5
SAMPLE_S = 0.25
HEARTBEAT_S = 30.0
TOUCH_S = 600.0
"""How often the cache is told that this snapshot is in use."""

Announce = Callable[[Status], None]
"""Called when the mount is ready, and then a few times a second."""


@dataclass(frozen=True, slots=True)
class Served:
    """What is served: the parts, and the sources their bytes come from."""

    parts: Parts
    sources: Sources


async def serve(control: Control, served: Served, endpoint: "Endpoint | None", announce: Announce) -> None:
    """Serve the descriptor the supervisor hands over, until it is unmounted or the supervisor ends it."""
    await _Service(control, served, endpoint, announce).run()


class _Service:
    """One worker's service; the supervisor's messages drive it."""

    def __init__(
        self, control: Control, served: Served, endpoint: "Endpoint | None", announce: Announce
    ) -> None:
        self._control = control
        self._parts = served.parts
        self._sources = served.sources
        self._endpoint = endpoint
        self._announce = announce
        self._go = trio.Event()
        self._left: list[int] = []
        """Where workers before this one have left requests."""
        self._courier: Courier | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while (message := await self._next()) is not None and message.kind != Kind.END:
                self._heed(message, nursery)
            # The supervisor has ended this, or is gone: what still waits need not be answered.
            nursery.cancel_scope.cancel()

    async def _next(self) -> Message | None:
        while True:
            try:
                return self._control.receive()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._control.sock)

    def _heed(self, message: Message, nursery: trio.Nursery) -> None:
        if message.kind == Kind.SERVE:
            nursery.start_soon(self._serve, message, nursery)
        elif message.kind == Kind.GO:
            self._left = message.fields["left"]
            self._go.set()
            self._begin(nursery)
        elif message.kind == Kind.READY:
            self._become_ready(message.fields, nursery)
        elif message.kind == Kind.UNDONE and self._courier is not None:
            self._courier.take_over(message.fields["left"])
        elif message.kind == Kind.ACCESS:
            renew(message.fields["environment"])
            self._sources.reconnect()
        elif message.kind == Kind.DRAIN and self._courier is not None:
            self._parts.warmer.stop()
            self._courier.drain()

    async def _serve(self, message: Message, nursery: trio.Nursery) -> None:
        parts, content, (fd, *table) = self._parts, self._parts.content, message.fds

        async def agree(reply: bytes) -> list[int]:
            self._control.send(Kind.REPLY, {"reply": reply.hex()})
            await self._go.wait()
            return self._left

        intake = RememberingIntake(table[0], message.fields["region"]) if table else Intake()
        waits = message.fields.get("waits", {})
        since_s = {int(unique): wait[0] for unique, wait in waits.items()}
        # One that is relieved answers what it has taken; what it refuses, the kernel asks here once more.
        parts.loader.waits.expect(
            (inode, ByteRange(offset, offset + size), since_s)
            for since_s, inode, offset, size in waits.values()
        )
        handshake = Handshake(bytes.fromhex(message.fields["init"]), agree, intake, since_s)
        reads = content.read_now, content.read_later
        courier = self._courier = Courier(fd, handshake, parts.operations, *reads, parts.meter)
        drained = await courier.run()
        if drained:
            self._control.send(Kind.DRAINED, {"unanswered": courier.unanswered_count})
        else:
            self._control.send(Kind.UNMOUNTED)
        nursery.cancel_scope.cancel()

    def _begin(self, nursery: trio.Nursery) -> None:
        """Start what fetches and keeps: from now on requests are taken."""
        relax()
        parts = self._parts
        nursery.start_soon(parts.loader.run)
        nursery.start_soon(parts.memory.run)
        if parts.writer is not None:
            nursery.start_soon(parts.writer.run)
        nursery.start_soon(self._beat)
        self._control.send(Kind.SERVING)

    async def _beat(self) -> None:
        """Tell the supervisor that this loop still runs. One that is stopped for a while hears some of it."""
        while True:
            # What has only to wait for its turn, or for a worker that hangs, is no trouble of its source.
            troubled = self._courier is not None and self._parts.loader.waits.in_trouble
            waits = self._courier.waits if self._courier is not None and troubled else {}
            self._control.send(Kind.BEAT, {**self._parts.reporter.progress(), "waits": waits})
            await trio.sleep(BEAT_S)

    def _become_ready(self, found: dict[str, Any], nursery: trio.Nursery) -> None:
        """Take note that the directory answers, and of what could not be tuned; tell everybody."""
        parts, reporter = self._parts, self._parts.reporter
        reporter.untuned, reporter.ready_after_s = tuple(found["untuned"]), found["ready_after_s"]
        gc.freeze()  # what is here now stays, and need not be looked through for garbage while bytes flow
        gc.set_threshold(GARBAGE_THRESHOLD)
        status = reporter.status()
        if found["first"]:
            _log_ready(status)
        if self._endpoint is not None:
            self._endpoint.ready = True
        self._control.send(Kind.READY, {"status": from_json(status.to_json())})
        self._announce(status)
        nursery.start_soon(_watch, parts, self._announce)
        if parts.store is not None:
            nursery.start_soon(_keep_touching, parts.store.touch)
        if parts.verifier is not None:
            nursery.start_soon(parts.verifier.run)


def _log_ready(status: Status) -> None:
    for message in status.untuned:
        log.warning("untuned what=%r", message)
    log.info(
        "ready mountpoint=%r source=%r files=%d bytes=%d local=%d seconds=%.2f",
        status.mountpoint, status.source, status.files, status.bytes_needed, status.bytes_local,
        status.ready_after_s,
    )  # fmt: skip


async def _watch(parts: Parts, announce: Announce) -> None:
    """Sample progress, show it, and log a heartbeat while a load runs."""
    reporter = parts.reporter
    beat_at_s = trio.current_time() + HEARTBEAT_S
    complete = not reporter.first and reporter.phase is Phase.COMPLETE
    while True:
        reporter.sample()
        status = reporter.status()
        announce(status)
        if status.phase is Phase.COMPLETE and not complete:
            complete = True
            log.info("complete bytes=%d seconds=%.2f", status.bytes_needed, status.complete_after_s or 0.0)
        if trio.current_time() >= beat_at_s:
            beat_at_s += HEARTBEAT_S
            if status.phase in {Phase.LOADING, Phase.STALLED} or status.oldest_wait_s:
                _log_heartbeat(status)
        await trio.sleep(SAMPLE_S)


def _log_heartbeat(status: Status) -> None:
    log.info(
        "heartbeat phase=%s local=%d needed=%d rate_bytes_per_s=%d eta_s=%s flights=%d oldest_wait_s=%.1f "
        "waiting_for=%r errors=%d last_error=%r",
        status.phase, status.bytes_local, status.bytes_needed, status.rate_bytes_per_s,
        "unknown" if status.eta_s is None else round(status.eta_s), status.flights, status.oldest_wait_s,
        status.oldest_wait, status.errors, status.last_error,
    )  # fmt: skip


async def _keep_touching(touch: Callable[[], None]) -> None:
    while True:
        await trio.to_thread.run_sync(touch, abandon_on_cancel=True)
        await trio.sleep(TOUCH_S)
