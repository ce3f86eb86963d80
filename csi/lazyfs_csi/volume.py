"""One mount of a node, as the node plugin has it."""

import logging
import os
import time
from enum import Enum, auto
from pathlib import Path
from typing import Any

from lazyfs.config import MountOptions, options_of
from lazyfs.errors import FuseUnavailable, LazyfsError
from lazyfs.fuse.channel import Channel, detach, open_as_root
from lazyfs.fuse.intake import make_table
from lazyfs.fuse.mountinfo import Mounted, mounted_at
from lazyfs.fuse.session import Session
from lazyfs.fuse.tuning import tune
from lazyfs_csi.records import VolumeRecord

log = logging.getLogger(__name__)


class State(Enum):
    """How far it is."""

    COMING = auto()
    """Mounted; nobody has answered on it yet."""
    SERVED = auto()
    LOST = auto()
    """Was served, and nobody does now; somebody will."""
    DEAD = auto()
    """Nobody will serve it again: its readers get errors."""


class Mount:
    """A mount. What changes is changed by whoever holds the lock of `Mounts`."""

    def __init__(self, record: VolumeRecord, path: Path) -> None:
        self.record = record
        self.path = path
        self.state = State.LOST
        self.identity = ""
        """Whose credentials it is served with: who shows others cannot share it any more."""
        self.said: dict[str, Any] = {}
        """What the mounter is told."""
        self.session: Session | None = None
        self.fds: tuple[int, ...] = ()
        self.waiting = 0
        """How many calls wait for it."""
        self.asked: set[Path] = set()
        """Targets it was not there for in time; they are expected to ask again."""
        self.failure: LazyfsError | None = None
        self.since_s = self.used_at_s = time.monotonic()
        """When it came to be in its state; when somebody was last interested in it."""
        self.progress: dict[str, int] = {"files": 0, "needed": 0, "local": 0}

    def enter(self, state: State) -> None:
        """Take note of its state."""
        if self.state is not state:
            self.state = state
            self.since_s = time.monotonic()

    @property
    def whole(self) -> bool:
        """Whether there is all that is needed to hand it over."""
        return bool(self.fds) and self.session is not None

    def mount(self) -> None:
        """Mount it.

        Raises:
            LazyfsError: when that is not possible.

        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        channel = open_as_root(self.path, self.record.label, allow_other=True)
        if channel is None:
            raise FuseUnavailable("mounting is not permitted", "run the node plugin privileged")
        try:
            self.session = Session(channel)
        except LazyfsError:
            os.close(channel.fd)
            detach(self.path)
            raise
        self.fds = (channel.fd, os.memfd_create("lazyfs-manifest", os.MFD_CLOEXEC))
        if not self.session.resends:
            self.fds = (*self.fds, make_table())
        self.enter(State.COMING)

    def adopt(self, said: dict[str, Any], fds: tuple[int, ...]) -> None:
        """Take back what the mounter has kept of it."""
        agreed = said["agreed"]
        self.fds = fds
        self.session = Session(
            Channel(fds[0], self.path, self.record.device),
            bytes.fromhex(said["init"]),
            None if agreed is None else bytes.fromhex(agreed),
        )
        self.said = said
        self.identity = said.get("identity", "")

    def handed(self) -> dict[str, Any]:
        """Return what the mounter is told."""
        assert self.session is not None
        agreed = self.session.agreed
        return self.said | {
            "init": self.session.init.hex(),
            "agreed": None if agreed is None else agreed.hex(),
            "identity": self.identity,
        }

    def agreed(self, reply: bytes) -> None:
        """Take note of the kernel's having this reply to INIT, which sets the read-ahead."""
        if self.session is not None:
            self.session.agreed = reply
            mounted = Mounted(str(self.path), self.session.channel.device, "", "")
            for what in tune(mounted, self._read_ahead_bytes):
                log.warning("untuned what=%r", what)

    @property
    def _read_ahead_bytes(self) -> int:
        option = options_of(MountOptions)["read_ahead"]
        assert option.parse is not None
        found: int = option.parse(str(self.said["options"].get("read_ahead") or option.default))
        return found

    def access(self) -> dict[str, Any]:
        """Return what the mounter is told of other credentials."""
        said = {"environment": self.said["environment"], "identity": self.identity}
        return {"key": self.record.name} | said

    @property
    def in_place(self) -> bool:
        """Whether it is still where it was mounted at first, for others to be shown it, too."""
        found = mounted_at(self.path)
        return found is not None and found.device == self.record.device

    @property
    def ended(self) -> str | None:
        """How its connection has ended, for people; None while it has not."""
        if self.session is None or not self.session.over:
            return None
        return "its connection was aborted" if self.in_place else "it was unmounted"

    def abort(self) -> None:
        """End its connection: whoever waits for it gets an error."""
        if self.session is not None:
            self.session.abort()
        else:
            Session(Channel(-1, self.path, self.record.device), b"").abort()

    def close(self) -> None:
        """Let go of its descriptors."""
        fds, self.fds, self.session = self.fds, (), None
        for fd in fds:
            os.close(fd)
