"""Who mounts, and how the mount is known to be well: what a supervisor does not do itself.

`Own` is that of `lazyfs mount`: the process that supervises also mounts, and unmounts at the end. Where the
process that may mount is another one, the descriptor comes from there, and stays known there (lazyfs_csi).
"""

import logging
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lazyfs.config import MountOptions
from lazyfs.errors import LazyfsError, MountpointError
from lazyfs.fuse.channel import Channel, detach, open_channel
from lazyfs.fuse.intake import make_table
from lazyfs.fuse.liveness import Liveness, liveness
from lazyfs.fuse.mountinfo import mounted_at
from lazyfs.fuse.session import Session
from lazyfs.fuse.tuning import tune

log = logging.getLogger(__name__)


class Holding(Protocol):
    """A mount, from before it is mounted until it is not any more. All of it from one thread."""

    session: Session | None
    """The session that is to be served on, when it has been served before; None before `open`."""
    table: int | None
    """Where workers remember what they have taken, if the kernel does not; a descriptor of shared memory."""

    def open(self) -> Session:
        """Have it mounted: somebody is ready to serve it.

        Raises:
            LazyfsError: when it cannot be mounted.

        """
        ...

    def agreed(self, reply: bytes) -> list[str] | None:
        """Take note of the kernel's having the reply to INIT; return what could not be tuned, if known."""
        ...

    def served(self, region: int) -> None:
        """Take note of a worker's serving it, which remembers in this region of the table."""
        ...

    def answers(self) -> bool:
        """Tell whether the mount answers.

        Raises:
            MountpointError: when it is not mounted any more.

        """
        ...

    def in_place(self) -> bool:
        """Tell whether it is in the list of mounts, which shows that nobody has unmounted it.

        False where that list cannot be seen.
        """
        ...

    def progressed(self, said: dict[str, Any]) -> None:
        """Take note of what a worker said of how far it is."""
        ...

    def detach(self, wait_s: float) -> None:
        """Take it away from where it is, for good, without waiting for longer than `wait_s`."""
        ...

    def close(self, *, gone: bool) -> None:
        """Let go of it. `gone`: nobody serves it any more; otherwise its readers are to be freed."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to mount, where and how; `claim` keeps others from mounting there until it is closed."""

    source: str
    """What the list of mounts says."""
    mountpoint: Path
    options: MountOptions
    claim: ExitStack


class Own:
    """The mount of the process that supervises it."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.session: Session | None = None
        self.table: int | None = None

    def open(self) -> Session:
        """Mount; see `Holding.open`."""
        wanted = self._wanted
        channel = open_channel(wanted.mountpoint, wanted.source, allow_other=wanted.options.allow_other)
        try:
            self.session = Session(channel)
        except LazyfsError:
            _detach(channel)
            os.close(channel.fd)
            raise
        wanted.claim.close()
        if not self.session.resends:
            self.table = make_table()
        return self.session

    def agreed(self, _reply: bytes) -> list[str] | None:
        """Set the read-ahead. Only now: the reply to INIT sets it too."""
        mounted = mounted_at(self._wanted.mountpoint)
        return tune(mounted, self._wanted.options.read_ahead) if mounted is not None else None

    def served(self, _region: int) -> None:
        """Do nothing: the supervisor knows."""

    def answers(self) -> bool:
        """Have another process ask; see `Holding.answers`."""
        path = self._wanted.mountpoint
        state = liveness(path)
        mounted = mounted_at(path) is not None
        if state is Liveness.ALIVE and mounted:
            return True
        if state is not Liveness.HANGS or not mounted:
            raise MountpointError(f"{path} was unmounted while it was being mounted", "mount it again")
        return False

    def in_place(self) -> bool:
        """Look for it; see `Holding.in_place`."""
        mounted = mounted_at(self._wanted.mountpoint)
        if mounted is None or self.session is None:
            return False
        return mounted.device == self.session.channel.device

    def progressed(self, said: dict[str, Any]) -> None:
        """Do nothing: the mount's status says it."""

    def detach(self, wait_s: float) -> None:
        """Unmount, in a thread, for whatever the kernel may wait for."""
        if self.session is None:
            return
        unmounting = threading.Thread(target=_detach, args=(self.session.channel,), daemon=True)
        unmounting.start()
        unmounting.join(wait_s)

    def close(self, *, gone: bool) -> None:
        """Close the descriptor: whoever still waits gets an error."""
        if self.session is None:
            return
        if not gone:
            self.session.abort()
        self.session.close()
        if self.table is not None:
            os.close(self.table)
        log.info("unmounted mountpoint=%r", str(self.session.channel.mountpoint))


def _detach(channel: Channel) -> None:
    try:
        detach(channel.mountpoint, channel.device)
    except MountpointError as error:
        log.warning("unmount_failed error=%r", str(error))
