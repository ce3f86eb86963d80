"""A mount that was handed over: the mounter has it served; the node plugin mounted it, and keeps copies."""

import dataclasses
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lazyfs.config import MountOptions, options_of, to_document
from lazyfs.errors import LazyfsError, MountpointError
from lazyfs.fuse.channel import Channel
from lazyfs.fuse.session import Session
from lazyfs.supervisor.crew import Crew
from lazyfs.supervisor.signals import ACCESS
from lazyfs.supervisor.supervise import Supervisor, Terms
from lazyfs_csi.link import Said
from lazyfs_csi.renewing import with_credentials

log = logging.getLogger(__name__)

Post = Callable[[Said, dict[str, Any], tuple[int, ...]], None]
"""Tells the node plugin, if it is there."""
PROGRESS_S = 2.0
MEMORY_BYTES = 384 << 20
"""The most a volume may ask for when the operator has not said: what `auto` is."""


@dataclasses.dataclass(slots=True)
class Handed:
    """All there is to know of a mount, and its descriptors: what goes back and forth over the link."""

    said: dict[str, Any]
    """`key`; `path` and `device` of the mount; `sources`, `options`, `environment`; `init`; `agreed`, the
    reply to it, or None; `region`, where the last worker remembers; `patience_s`."""
    fds: tuple[int, ...]
    """The FUSE device; the memory the pinned snapshot is in; that of what workers remember, if they do."""

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            os.close(fd)


class Page(NamedTuple):
    """Where a worker serves HTTP, at a port of the loopback, and what it has mounted."""

    source: str
    volume: str
    port: int


class Calls:
    """What other threads want of a supervisor, as numbers of signals (`lazyfs.supervisor.signals.Calls`)."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self.fd = self._ours.fileno()

    def post(self, number: int) -> None:
        """Want this."""
        try:
            self._theirs.send(bytes([number]))
        except OSError:
            log.debug("call_unheard number=%d", number)

    def take(self) -> set[int]:
        """Return what was wanted since the last time."""
        try:
            return set(self._ours.recv(4096))
        except BlockingIOError:
            return set()

    def hung_up(self) -> bool:
        """Return False: nobody here has a terminal."""
        return False

    def close(self) -> None:
        """Take no more."""
        self._ours.close()
        self._theirs.close()


class Held:
    """The mount as its supervisor sees it (`lazyfs.supervisor.holding.Holding`)."""

    def __init__(self, handed: Handed, post: Post) -> None:
        self._handed = handed
        self._post = post
        self._posted_at_s = 0.0
        self.session: Session | None = None
        self.table = handed.fds[2] if len(handed.fds) > 2 else None  # noqa: PLR2004 - see Handed
        if handed.said["agreed"] is not None:
            self.session = self.open()

    def open(self) -> Session:
        """Return the session that is there already; see `Holding.open`."""
        said, agreed = self._handed.said, self._handed.said["agreed"]
        channel = Channel(self._handed.fds[0], Path(said["path"]), said["device"])
        init = bytes.fromhex(said["init"])
        self.session = Session(channel, init, None if agreed is None else bytes.fromhex(agreed))
        return self.session

    def agreed(self, reply: bytes) -> list[str] | None:
        """Tell the node plugin, which also does the tuning."""
        if self._handed.said["agreed"] is None:
            self._handed.said["agreed"] = reply.hex()
        self._tell(Said.AGREED, {"agreed": self._handed.said["agreed"]})
        return []

    def served(self, region: int) -> None:
        """Tell the node plugin."""
        self._handed.said["region"] = region
        self._tell(Said.SERVING, {"region": region})

    def answers(self) -> bool:
        """Return True: the node plugin looks, before it shows the mount to anybody."""
        if self.session is None or self.session.over:
            raise MountpointError(f"{self._handed.said['path']} was unmounted", "mount it again")
        return True

    def in_place(self) -> bool:
        """Return False: the mount is in the node plugin's namespace, which sees what has become of it."""
        return False

    def progressed(self, said: dict[str, Any]) -> None:
        """Tell the node plugin now and then."""
        now_s = time.monotonic()
        if now_s - self._posted_at_s > PROGRESS_S and "needed" in said:
            self._posted_at_s = now_s
            self._tell(Said.PROGRESS, {name: said[name] for name in ("files", "needed", "local")})

    def detach(self, wait_s: float) -> None:
        """Do nothing: the node plugin unmounts."""

    def close(self, *, gone: bool) -> None:
        """Do nothing: the descriptors are closed with the charge, and the node plugin aborts."""

    def _tell(self, kind: Said, fields: dict[str, Any]) -> None:
        self._post(kind, {"key": self._handed.said["key"], **fields}, ())


class Charge:
    """A mount that is served here: by a thread that supervises its worker."""

    def __init__(
        self, handed: Handed, order: dict[str, Any], post: Post, over: Callable[["Charge"], None],
        listening: socket.socket | None = None,
    ) -> None:  # fmt: skip
        """Take it over. Its workers serve HTTP at `listening`, if it is given."""
        self._listening = listening
        self.page: Page | None = None
        if listening is not None:
            self.page = Page(handed.said["sources"][0], handed.said["key"][:12], listening.getsockname()[1])
        self.handed = handed
        self.key: str = handed.said["key"]
        self._order = order
        self._post = post
        self._over = over
        self._calls = Calls()
        # Whose end ends the workers it has started, too (PR_SET_PDEATHSIG is of a thread): it lasts.
        self._thread = threading.Thread(target=self._run, name=f"charge-{self.key[:8]}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Have it end."""
        self._calls.post(signal.SIGTERM)

    def use(self, environment: dict[str, str], identity: str) -> None:
        """Have its workers use other credentials; whose, the node plugin wants to know again."""
        before = self._order["environment"] or {}
        told = with_credentials(self._order["source"], before, environment)
        self.handed.said["environment"] = self._order["environment"] = told
        self.handed.said["identity"] = identity
        self._calls.post(ACCESS)

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        said = self.handed.said
        failure: dict[str, Any] = {"error": "its mount is gone", "cure": "", "what": "", "exit_code": 1}
        try:
            held = Held(self.handed, self._post)
            served = () if self._listening is None else (self._listening.fileno(),)
            crew = Crew(self._order, (self.handed.fds[1], *served), said["region"])
            terms = Terms(self._order["source"], said["patience_s"])
            Supervisor(terms, held, crew, self._calls, _unannounced).run()
        except LazyfsError as error:
            failure = {
                "error": error.cause, "cure": error.cure, "exit_code": error.exit_code,
                "what": getattr(error, "what", "") or error.kind(),
            }  # fmt: skip
            log.warning("volume_ended source=%r why=%r", self._order["source"], str(error))
        except Exception:
            log.exception("volume_broken source=%r", self._order["source"])
        self._over(self)
        self._post(Said.FAILED, {"key": self.key, **failure}, ())
        self._calls.close()
        self.handed.close()
        if self._listening is not None:
            self._listening.close()


def _unannounced(_status: dict[str, Any]) -> None:
    """Do nothing: the log says it, and `serving` has been told."""


def order_of(said: dict[str, Any], own: MountOptions) -> dict[str, Any]:
    """Return what workers of a mount are told: what the volume wants, within what the node allows.

    Raises:
        UsageError: when this version does not understand what is wanted.

    """
    table = options_of(MountOptions)
    wanted: dict[str, Any] = {}
    for name, value in said["options"].items():
        if name in table:
            parse = table[name].parse
            many = table[name].many
            wanted[name] = tuple(value) if many else parse(value) if parse is not None else value
    # Whoever writes a pod must not take the node's disk or memory from the others.
    if "cache_size" in wanted:
        wanted["cache_share"] = wanted.pop("cache_size")
    if wanted.get("memory") is not None:
        wanted["memory"] = min(wanted["memory"], own.memory or MEMORY_BYTES)
    options = dataclasses.replace(own, **wanted)
    return {
        "source": " ".join(said["sources"]),
        "sources": said["sources"],
        "mountpoint": said["path"],
        "options": to_document(options),
        "owner": [0, 0],
        "started_at": time.time(),
        "terminal": False,
        "environment": said["environment"],
    }
