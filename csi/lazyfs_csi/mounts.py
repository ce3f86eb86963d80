"""The mounts of a node: one for all volumes that are the same, with the same credentials.

The mounter serves them; this side mounts, keeps a copy of every descriptor, and sees to it that nobody waits
for ever. What is said to the mounter says all there is to know, so that both sides may come and go.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazyfs.errors import LazyfsError, Reported, SourceUnavailable
from lazyfs.fuse.channel import detach
from lazyfs.fuse.mountinfo import lazyfs_mounts, mounted_at
from lazyfs.supervisor.messages import Message
from lazyfs_csi.attributes import Volume
from lazyfs_csi.binding import bound, copies
from lazyfs_csi.link import Link, Said
from lazyfs_csi.probing import answers
from lazyfs_csi.records import Records, VolumeRecord
from lazyfs_csi.renewing import with_credentials
from lazyfs_csi.volume import Mount, State

log = logging.getLogger(__name__)

TICK_S = 1.0
LINGER_S = 300.0
"""So long a mount is kept that nobody is shown, and nobody waits for: the kubelet asks again."""
LABEL_MAX = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be mounted, and for whom."""

    volume: Volume
    environment: dict[str, str]
    """The credentials."""
    identity: str
    share: str
    """The same for all that may share."""


class Mounts:
    """The mounts, and the link to the mounter. Any thread may call."""

    def __init__(self, records: Records, patience_s: float) -> None:
        self._records = records
        self._patience_s = patience_s
        self._changed = threading.Condition(threading.RLock())
        self._mounts: dict[str, Mount] = {}
        self._shown: dict[str, set[Path]] = {}
        """Targets by name of the mount."""
        self._link: Link | None = None
        self._known = False
        """Whether the mounter has said all it holds, since this process began."""
        self._recover()

    # -- from what was before ------------------------------------------------------------------------

    def _recover(self) -> None:
        """Find what is mounted. Whether somebody serves it, the mounter will say."""
        for record in self._records.volumes():
            path = self._records.mounts / record.name
            found = mounted_at(path)
            if (found is None or found.device != record.device) and not bound(record.device, path):
                self._records.forget(record)
                continue
            self._mounts[record.name] = Mount(record, path)
        for one in lazyfs_mounts():
            path = Path(one.mountpoint)
            if path.parent == self._records.mounts and path.name not in self._mounts:
                log.warning("stale_mount_cleaned mountpoint=%r source=%r", str(path), one.source)
                detach(path)
        for path in self._records.mounts.iterdir():
            if path.name not in self._mounts:
                _leave(path)

    @property
    def linked(self) -> bool:
        """Whether a mounter is there."""
        return self._link is not None

    def shows(self, name: str, target: Path) -> bool:
        """Take note of a target's showing a mount; False when there is no such mount."""
        with self._changed:
            if name not in self._mounts:
                return False
            self._shown.setdefault(name, set()).add(target)
            return True

    # -- the mounter ---------------------------------------------------------------------------------

    def attend(self, link: Link) -> None:
        """Hear the mounter until it is gone."""
        held: set[str] = set()
        while (message := link.receive()) is not None:
            with self._changed:
                if message.kind == Said.HELD:
                    self._take_back(link, message, held)
                elif message.kind == Said.KNOWN:
                    self._join(link, held, message.fields.get("pid", 0))
                else:
                    self._hear(message)
                self._changed.notify_all()
        self.unlinked(link)

    def unlinked(self, link: Link) -> None:
        """Take note that the mounter is gone."""
        with self._changed:
            self._link = None
            for mount in self._mounts.values():
                if mount.state is State.SERVED:
                    mount.enter(State.LOST)
            self._changed.notify_all()
        link.let_go()
        log.warning(
            "mounter_went mounts=%d consequence=%r", len(self._mounts), "readers wait for the next one"
        )

    def _take_back(self, link: Link, message: Message, held: set[str]) -> None:
        said = message.fields
        mount = self._mounts.get(said["key"])
        if mount is None:
            link.send(Said.END, {"key": said["key"]})
        else:
            held.add(said["key"])
        if mount is None or mount.whole or mount.state is State.DEAD:
            for fd in message.fds:
                os.close(fd)
            if mount is not None and mount.whole:
                self._catch_up(link, mount, said)
            return
        mount.adopt(said, message.fds)
        mount.enter(State.LOST if said["agreed"] is not None else State.COMING)

    def _catch_up(self, link: Link, mount: Mount, said: dict[str, Any]) -> None:
        """Have both sides know what was said while there was no link between them."""
        if mount.state is State.COMING and said["agreed"] is not None:
            mount.agreed(bytes.fromhex(said["agreed"]))
            self._serve(mount)
        if said.get("identity", mount.identity) != mount.identity:
            link.send(Said.ACCESS, mount.access())

    def _join(self, link: Link, held: set[str], pid: int) -> None:
        """Hand over what the mounter does not hold; what neither side holds is dead."""
        self._link, self._known = link, True
        log.info("mounter_came pid=%d holds=%d mounts=%d", pid, len(held), len(self._mounts))
        for mount in list(self._mounts.values()):
            if mount.state is State.DEAD:
                continue
            if not mount.whole:
                self._bury(mount, "neither side has kept its descriptor")
            elif mount.record.name not in held:
                link.send(Said.SERVE, mount.handed(), mount.fds)
            elif mount.state is State.LOST:
                mount.enter(State.SERVED)

    def _hear(self, message: Message) -> None:
        said = message.fields
        mount = self._mounts.get(said.get("key", ""))
        if mount is None or mount.state is State.DEAD:
            return
        if message.kind == Said.AGREED:
            mount.agreed(bytes.fromhex(said["agreed"]))
        elif message.kind == Said.SERVING:
            mount.said["region"] = said["region"]
            self._serve(mount)
        elif message.kind == Said.PROGRESS:
            mount.progress = {name: said[name] for name in mount.progress}
        elif message.kind == Said.FAILED:
            self._fail(mount, Reported(said["error"], said["cure"], said["exit_code"], said["what"]))

    def _serve(self, mount: Mount) -> None:
        if mount.state is State.COMING:
            # In a thread of its own, that may wait for the mount: none that answers calls ever does.
            threading.Thread(target=self._prove, args=(mount,), daemon=True, name="probe").start()
        elif mount.state is State.LOST:
            log.info(
                "mount_served source=%r after_s=%.2f", mount.record.label, time.monotonic() - mount.since_s
            )
            mount.enter(State.SERVED)

    def _prove(self, mount: Mount) -> None:
        answered = answers(mount.path)
        with self._changed:
            if mount.state is State.COMING:
                if answered:
                    mount.enter(State.SERVED)
                else:
                    self._fail(mount, LazyfsError(f"{mount.record.label} is served, but does not answer"))
            self._changed.notify_all()

    def _fail(self, mount: Mount, failure: LazyfsError) -> None:
        """Take note that nobody serves it, or could."""
        mount.failure = failure
        if mount.state is State.COMING:
            mount.enter(State.DEAD)
            self._remove(mount)
        else:
            self._bury(mount, mount.ended or str(failure))  # the mounter cannot see how it ended

    def _bury(self, mount: Mount, why: str) -> None:
        """Free the readers of a mount that nobody will serve any more. It stays until nobody is shown it."""
        log.error(
            "mount_dead source=%r why=%r targets=%d", mount.record.label, why, len(self._targets(mount))
        )
        mount.enter(State.DEAD)
        mount.abort()
        mount.close()
        if not self._targets(mount):
            self._remove(mount)

    # -- volumes -------------------------------------------------------------------------------------

    def mount(self, asked: Asked) -> Mount:
        """Return the mount for a volume, mounted now if there is none; `wait` for it.

        Raises:
            LazyfsError: when it cannot be mounted.

        """
        with self._changed:
            for mount in self._mounts.values():
                same = mount.record.share == asked.share and mount.identity == asked.identity
                if same and mount.state is not State.DEAD and mount.in_place:
                    mount.used_at_s = time.monotonic()
                    return mount
            return self._mount(asked)

    def _mount(self, asked: Asked) -> Mount:
        name = f"{asked.share[:20]}-{secrets.token_hex(4)}"
        label = asked.volume.label[:LABEL_MAX]
        mount = Mount(VolumeRecord(name, asked.share, label, ""), self._records.mounts / name)
        mount.mount()
        assert mount.session is not None
        device = mount.session.channel.device
        mount.record = VolumeRecord(name, asked.share, label, device)
        mount.identity = asked.identity
        mount.said = {
            "key": name, "path": str(mount.path), "device": device, "sources": list(asked.volume.sources),
            "options": dict(asked.volume.options), "secret": bool(asked.environment),
            "environment": {**asked.volume.environment, **asked.environment}, "region": -1,
            "patience_s": self._patience_s,
        }  # fmt: skip
        self._mounts[name] = mount
        self._records.keep(mount.record)
        if self._link is not None:
            self._link.send(Said.SERVE, mount.handed(), mount.fds)
        return mount

    def wait(self, mount: Mount, target: Path, timeout_s: float, wanted: Callable[[], bool]) -> bool:
        """Wait until a mount answers, and is there to be shown at a target.

        False when it takes longer, or is not `wanted` any more, which is asked about once a second.

        Raises:
            LazyfsError: when nobody can serve it.

        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            mount.waiting += 1
            try:
                while mount.state not in {State.SERVED, State.DEAD}:
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0 or not wanted():
                        mount.asked.add(target)
                        return False
                    self._changed.wait(min(left_s, TICK_S))
            finally:
                mount.waiting -= 1
                mount.used_at_s = time.monotonic()
            if mount.state is State.DEAD:
                ended = f"the mount of {mount.record.label} ended while it was waited for"
                raise mount.failure or SourceUnavailable(ended, "it is asked again")
            mount.asked.discard(target)
            self._shown.setdefault(mount.record.name, set()).add(target)
            return True

    def give_up(self, target: Path) -> None:
        """Take note that a target will not ask again for what was not there in time."""
        with self._changed:
            for mount in list(self._mounts.values()):
                if target in mount.asked:
                    mount.asked.discard(target)
                    if not mount.asked and not mount.waiting and not self._targets(mount):
                        self._remove(mount)

    def renew(self, name: str, asked: Asked) -> None:
        """Have a mount served with other credentials, and by the server it has: see `core/renewal.py`."""
        with self._changed:
            mount = self._mounts.get(name)
            if mount is None or mount.state is State.DEAD or mount.identity == asked.identity:
                return
            mount.identity = asked.identity
            log.info("credentials_renewed source=%r", mount.record.label)
            wanted = {**asked.volume.environment, **asked.environment}
            before = mount.said["environment"]
            mount.said["environment"] = with_credentials(mount.record.label, before, wanted)
            if self._link is not None:
                self._link.send(Said.ACCESS, mount.access())

    def find(self, name: str) -> Mount | None:
        """Return the mount of a name, if it is still there."""
        return self._mounts.get(name)

    def unshow(self, name: str, target: Path) -> None:
        """Take note that a target does not show it any more; the last one takes the mount with it."""
        with self._changed:
            self._shown.get(name, set()).discard(target)
            mount = self._mounts.get(name)
            if mount is not None and not self._targets(mount) and not mount.waiting:
                self._remove(mount)

    def _targets(self, mount: Mount) -> set[Path]:
        return self._shown.get(mount.record.name, set()) | set(bound(mount.record.device, mount.path))

    def _remove(self, mount: Mount) -> None:
        """Unmount, and free whoever still has a file of it open."""
        if self._link is not None:
            self._link.send(Said.END, {"key": mount.record.name})
        if mount.state is not State.DEAD:
            mount.enter(State.DEAD)
        mount.abort()  # before: what is unmounted is no longer among the connections that can be aborted
        for path in (mount.path, *copies(mount.record.device, mount.path)):
            detach(path)
        mount.close()
        self._mounts.pop(mount.record.name, None)
        self._shown.pop(mount.record.name, None)
        self._records.forget(mount.record)
        _leave(mount.path)
        log.info("mount_ended source=%r", mount.record.label)

    # -- time ----------------------------------------------------------------------------------------

    def watch(self, over: threading.Event) -> None:
        """Look after the mounts until this is to end."""
        while not over.wait(TICK_S):
            with self._changed:
                for mount in list(self._mounts.values()):
                    try:
                        self._look_after(mount)
                    except (LazyfsError, OSError) as error:  # the others need somebody who looks, too
                        log.warning("mount_left source=%r error=%r", mount.record.label, str(error))
                self._changed.notify_all()

    def _look_after(self, mount: Mount) -> None:
        now_s = time.monotonic()
        if mount.state is State.DEAD:
            if not self._targets(mount):
                self._remove(mount)
            return
        ended = mount.ended
        if ended is not None:
            self._bury(mount, ended)
        elif mount.state is State.LOST and now_s - mount.since_s > self._patience_s:
            mount.failure = LazyfsError(f"nobody served {mount.record.label} for {self._patience_s:.0f} s")
            self._bury(mount, str(mount.failure))
        elif not mount.waiting and now_s - mount.used_at_s > LINGER_S and not self._targets(mount):
            self._remove(mount)

    def condition(self, mount: Mount | None) -> str | None:
        """Return what is wrong with a mount, for people; None when nothing is."""
        if mount is None or mount.state is State.DEAD:
            return "the mount has ended: its readers get errors; delete the pod"
        if mount.state is State.LOST:
            waited = "and the mounter is not there" if self._link is None else "and somebody will soon"
            return f"nobody serves the mount since {time.monotonic() - mount.since_s:.0f} s, {waited}"
        return None


def _leave(path: Path) -> None:
    """Remove a directory that nothing is mounted at any more; what cannot be removed harms nobody."""
    try:
        path.rmdir()
    except OSError as error:
        log.warning("mountpoint_left path=%r error=%r", str(path), error.strerror)
