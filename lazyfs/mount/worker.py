"""The process that serves a mount: `python -m lazyfs.mount FD ...`, started by the supervisor.

FD is the socket to the supervisor, which says what to serve; what follows is for ps(1). Only the supervisor
ends it: it takes no notice of Ctrl-C and SIGTERM, which may be meant for a whole group of processes, and
writes to a terminal though another group is in its foreground.
"""

import faulthandler
import signal
import socket
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from lazyfs.config import MountOptions, from_document
from lazyfs.errors import LazyfsError
from lazyfs.fuse.liveness import Liveness, read_status
from lazyfs.mount.access import assume
from lazyfs.mount.assembly import Parts, assemble
from lazyfs.mount.lifecycle import Announce, Served, serve
from lazyfs.mount.report import Origin
from lazyfs.mount.snapshot import Sources, pinned
from lazyfs.supervisor.messages import Control, Kind, Message
from lazyfs.supervisor.privileges import die_with, drop
from lazyfs.telemetry.logs import configure, open_log, writer_to
from lazyfs.telemetry.status import Status

if TYPE_CHECKING:
    from lazyfs.telemetry.endpoint import Endpoint

NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTOU)


def main(control: Control) -> int:
    """Serve what the supervisor says; return the exit code."""
    order = control.receive()
    if order is None or order.kind != Kind.MOUNT:
        return 1
    error: LazyfsError | None = None
    try:
        with ExitStack() as ends:
            _work(control, order, ends)
    except* LazyfsError as errors:
        error = _first(errors)
    if error is None:
        return 0
    said = {"error": error.cause, "cure": error.cure, "exit_code": error.exit_code, "what": error.kind()}
    control.send(Kind.FAILED, said)
    return error.exit_code


def _work(control: Control, order: Message, ends: ExitStack) -> None:
    said, options = order.fields, from_document(order.fields["options"])
    log = 2 if options.log_file is None else open_log(options.log_file)
    die_with(said["supervisor"])
    if said.get("environment") is not None:
        assume(said["environment"])
    # An older supervisor knows of one source only.
    sources = Sources(said.get("sources", [said["source"]]), options, options.layout)
    ends.callback(sources.close)
    if options.user is not None:
        _load(sources, options)
    # Before there are other threads: they would keep what they had.
    drop(options.user)
    die_with(said["supervisor"])
    announce = _tell_about(options, log, ends, terminal=said["terminal"])
    manifest = pinned(sources, order.fds[0], first=said["first"])
    path = Path(said["mountpoint"])
    known = said["started_at"], said["supervisor"], said["restarts"], tuple(said["owner"]), said["first"]
    parts = assemble(sources.locate, manifest, options, Origin(path, *known))
    endpoint = None
    if len(order.fds) > 1:
        endpoint = _endpoint(order.fds[1], parts, path)
        ends.callback(endpoint.close)
    control.send(Kind.PREPARED)
    control.sock.setblocking(False)
    trio.run(serve, control, Served(parts, sources), endpoint, announce)


def _load(sources: Sources, options: MountOptions) -> None:
    """Load what is otherwise loaded when it is needed: another user may not be allowed to read it.

    The same goes for the credentials: they are found as whoever mounts.
    """
    sources.connect_now()
    modules = ["encodings.idna", "socketserver"]
    if options.http is not None:
        modules += ["http.server", "lazyfs.telemetry.endpoint", "prometheus_client.core"]
    for module in modules:
        import_module(module)


def _tell_about(options: MountOptions, log: int, ends: ExitStack, *, terminal: bool) -> Announce:
    """Have the log written, and progress shown on a terminal; return what to tell of the status."""
    if not terminal:
        configure(options.log_level, options.log_format, writer_to(log))
        return _unannounced
    from lazyfs.telemetry.progress import MountDrawing, TerminalProgress  # noqa: PLC0415 - only a terminal

    progress = TerminalProgress(MountDrawing)
    ends.callback(progress.close)
    level = "WARNING" if options.log_level == "INFO" else options.log_level
    configure(level, options.log_format, progress.line)
    return progress


def _unannounced(_status: Status) -> None:
    """Do nothing: the log says it."""


def _endpoint(listening: int, parts: Parts, mountpoint: Path) -> "Endpoint":
    # Late: http.server takes a while to import, and most mounts serve no HTTP.
    from lazyfs.telemetry.endpoint import Endpoint, Probe  # noqa: PLC0415

    probe = Probe(lambda: _trouble(read_status(mountpoint)))
    return Endpoint(socket.socket(fileno=listening), parts.meter, parts.reporter.status, probe)


def _trouble(said: bytes | Liveness) -> str | None:
    """Return why a read through the mount did not work. One that this user may not do says nothing."""
    if isinstance(said, bytes) or said is Liveness.HIDDEN:
        return None
    return "its server is gone" if said is Liveness.DEAD else "it does not answer"


def _first(errors: BaseExceptionGroup[LazyfsError]) -> LazyfsError:
    """Return one error of a group of them: trio wraps what ends a nursery, several times over."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, LazyfsError)
    return found


def start() -> None:
    """Begin: `sys.argv[1]` is the socket to the supervisor."""
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    sys.exit(main(Control(socket.socket(fileno=int(sys.argv[1])))))
