"""The life of a mount, from the address of a source to the last unmount."""

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from lazyfs.config import MountOptions
from lazyfs.errors import MountpointError
from lazyfs.fuse.channel import Channel, detach, open_channel
from lazyfs.fuse.courier import Courier
from lazyfs.fuse.liveness import STATUS_FILE
from lazyfs.fuse.mountinfo import mounted_at
from lazyfs.fuse.tuning import tune
from lazyfs.mount.assembly import Parts, assemble
from lazyfs.mount.preflight import claimed
from lazyfs.mount.snapshot import connect, take
from lazyfs.telemetry.status import Phase, Status, bytes_text, duration_text

if TYPE_CHECKING:
    from lazyfs.telemetry.endpoint import Endpoint

log = logging.getLogger(__name__)

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
    # Until trio takes the signal over: unwind, so that nothing stays mounted.
    signal.signal(signal.SIGTERM, _unwind)
    with claimed(mountpoint) as path:
        source = connect(source_address, options)
        manifest = take(source, source_address, options)
        parts = assemble(source, manifest, path, options, started_at_s)
        endpoint = _endpoint(options, parts, path)
        channel = open_channel(path, source_address, allow_other=options.allow_other)
    try:
        trio.run(_run, channel, parts, options, endpoint, announce)
    finally:
        detach(path)
        source.close()
        log.info("unmounted mountpoint=%s", path)


def _unwind(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _endpoint(options: MountOptions, parts: Parts, mountpoint: Path) -> "Endpoint | None":
    if options.http is None or options.no_http:
        return None
    # Late: http.server takes a while to import, and most mounts serve no HTTP.
    from lazyfs.telemetry.endpoint import Endpoint, Probe  # noqa: PLC0415

    probe = Probe(str(mountpoint / STATUS_FILE))
    return Endpoint(options.http, parts.meter, parts.reporter.status, probe)


async def _run(
    channel: Channel, parts: Parts, options: MountOptions, endpoint: "Endpoint | None", announce: Announce
) -> None:
    """Run the parts until the mount ends."""
    async with trio.open_nursery() as nursery:

        async def serving() -> None:
            content = parts.content
            courier = Courier(channel.fd, parts.operations, content.read_now, content.read_later, parts.meter)
            await courier.run()
            nursery.cancel_scope.cancel()  # somebody unmounted

        async def ending() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                number = await anext(signals)
            log.info("ending signal=%s mountpoint=%s", signal.Signals(number).name, channel.mountpoint)
            with trio.move_on_after(DETACH_S):
                await trio.to_thread.run_sync(detach, channel.mountpoint, abandon_on_cancel=True)
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
    for message in reporter.untuned:
        log.warning("untuned what=%r", message)
    status = reporter.status()
    reporter.ready_after_s = time.time() - status.started_at
    log.info(
        "ready mountpoint=%s source=%s files=%d bytes=%d local=%d seconds=%.2f",
        path, status.source, status.files, status.bytes_needed, status.bytes_local, reporter.ready_after_s,
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
        "heartbeat phase=%s local=%d needed=%d rate=%r eta=%r flights=%d oldest_wait_s=%.1f waiting_for=%r "
        "errors=%d last_error=%r",
        status.phase, status.bytes_local, status.bytes_needed, f"{bytes_text(status.rate_bytes_per_s)}/s",
        "unknown" if status.eta_s is None else duration_text(status.eta_s), status.flights,
        status.oldest_wait_s, status.oldest_wait, status.errors, status.last_error,
    )  # fmt: skip


async def _keep_touching(touch: Callable[[], None]) -> None:
    while True:
        await trio.to_thread.run_sync(touch, abandon_on_cancel=True)
        await trio.sleep(TOUCH_S)
