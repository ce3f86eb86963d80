"""The life of a mount, from the address of a source to the last unmount."""

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from lazyfs.config import MountOptions
from lazyfs.errors import LazyfsError, MountpointError
from lazyfs.fuse.channel import Channel, detach, open_channel
from lazyfs.fuse.courier import Courier
from lazyfs.fuse.liveness import STATUS_PATH
from lazyfs.fuse.mountinfo import mounted_at
from lazyfs.fuse.tuning import tune
from lazyfs.mount.assembly import Parts, assemble
from lazyfs.mount.preflight import claimed
from lazyfs.mount.snapshot import connect, take
from lazyfs.telemetry.status import Phase, Status

if TYPE_CHECKING:
    from lazyfs.telemetry.endpoint import Endpoint

log = logging.getLogger(__name__)

GARBAGE_THRESHOLD = 700
"""Python's own: an error caught in a circle of frames may hold blocks."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAMPLE_S = 0.25
HEARTBEAT_S = 30.0
TOUCH_S = 600.0
"""How often the cache is told that this snapshot is in use."""
DETACH_S = 1.0

Announce = Callable[[Status], None]
"""Called when the directory answers, and then a few times a second."""


def mount(source_address: str, mountpoint: Path, options: MountOptions, announce: Announce) -> None:
    """Mount `source_address` at `mountpoint` and serve it until it is unmounted or a signal ends it.

    Raises:
        LazyfsError: whatever keeps it from being mounted; nothing is left mounted then.

    """
    started_at_s = time.time()
    # Before trio takes the signals over, and after: unwind, once, so that nothing stays mounted.
    unwind = _Unwind()
    for number in ENDING:
        signal.signal(number, unwind)
    with ExitStack() as ends:
        with claimed(mountpoint) as path:
            source = connect(source_address, options)
            ends.callback(source.close)
            manifest = take(source, source_address, options)
            parts = assemble(source, manifest, path, options, started_at_s)
            endpoint = _endpoint(options, parts, path)
            if endpoint is not None:
                ends.callback(endpoint.close)
            channel = open_channel(path, source_address, allow_other=options.allow_other)
            ends.callback(lambda: log.info("unmounted mountpoint=%r", str(path)))
            ends.callback(detach, path, channel.device)
        try:
            trio.run(_run, channel, parts, options, endpoint, announce, unwind)
        except* LazyfsError as errors:
            raise _first(errors) from None


def _first(errors: BaseExceptionGroup[LazyfsError]) -> LazyfsError:
    """Return one error of a group of them: trio wraps what ends a nursery, several times over."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, LazyfsError)
    return found


class _Unwind:
    """A handler for signals: the first one ends the process by unwinding, more of them change nothing."""

    def __init__(self) -> None:
        self.armed = True

    def __call__(self, number: int, _frame: object) -> None:
        """Handle a signal."""
        if self.armed:
            self.armed = False
            raise SystemExit(128 + number)


def _endpoint(options: MountOptions, parts: Parts, mountpoint: Path) -> "Endpoint | None":
    if options.http is None or options.no_http:
        return None
    # Late: http.server takes a while to import, and most mounts serve no HTTP.
    from lazyfs.telemetry.endpoint import Endpoint, Probe  # noqa: PLC0415

    probe = Probe(str(mountpoint / STATUS_PATH))
    return Endpoint(options.http, parts.meter, parts.reporter.status, probe)


async def _run(
    channel: Channel,
    parts: Parts,
    options: MountOptions,
    endpoint: "Endpoint | None",
    announce: Announce,
    unwind: "_Unwind",
) -> None:
    """Run the parts until the mount ends."""
    async with trio.open_nursery() as nursery:

        async def serving() -> None:
            content = parts.content
            courier = Courier(channel.fd, parts.operations, content.read_now, content.read_later, parts.meter)
            await courier.run()
            nursery.cancel_scope.cancel()  # somebody unmounted

        async def ending() -> None:
            with trio.open_signal_receiver(*ENDING) as signals:
                unwind.armed = False
                number = await anext(signals)
            log.info("ending signal=%s mountpoint=%r", signal.Signals(number).name, str(channel.mountpoint))
            with trio.move_on_after(DETACH_S):
                await trio.to_thread.run_sync(
                    detach, channel.mountpoint, channel.device, abandon_on_cancel=True
                )
            nursery.cancel_scope.cancel()

        nursery.start_soon(ending)
        nursery.start_soon(parts.loader.run)
        if parts.writer is not None:
            nursery.start_soon(parts.writer.run)
        nursery.start_soon(serving)
        await _become_ready(channel, parts, options)
        if endpoint is not None:
            endpoint.ready = True
        announce(parts.reporter.status())
        nursery.start_soon(_watch, parts, announce)
        if parts.store is not None:
            nursery.start_soon(_keep_touching, parts.store.touch)


async def _become_ready(channel: Channel, parts: Parts, options: MountOptions) -> None:
    """Wait until the directory answers, then tune the mount. From threads: never touch one's own mount."""
    reporter, path = parts.reporter, channel.mountpoint
    # First of all an answer: the reply to INIT sets the read-ahead, and would undo what was tuned before.
    await trio.to_thread.run_sync(os.listdir, path, abandon_on_cancel=True)
    mounted = mounted_at(path)
    if mounted is None:
        raise MountpointError(f"{path} was unmounted while it was being mounted", "mount it again")
    reporter.untuned = tuple(
        await trio.to_thread.run_sync(tune, mounted, options.read_ahead, abandon_on_cancel=True)
    )
    gc.freeze()  # what is here now stays, and need not be looked through for garbage while bytes flow
    gc.set_threshold(GARBAGE_THRESHOLD)
    for message in reporter.untuned:
        log.warning("untuned what=%r", message)
    status = reporter.status()
    reporter.ready_after_s = time.time() - status.started_at
    log.info(
        "ready mountpoint=%r source=%r files=%d bytes=%d local=%d seconds=%.2f",
        str(path), status.source, status.files, status.bytes_needed, status.bytes_local,
        reporter.ready_after_s,
    )  # fmt: skip


async def _watch(parts: Parts, announce: Announce) -> None:
    """Sample progress, show it, and log a heartbeat while a load runs."""
    reporter = parts.reporter
    beat_at_s = trio.current_time() + HEARTBEAT_S
    complete = False
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
