"""`lazyfs-mounter`: has the volumes of a node served, one worker for each, and owns the cache.

It needs no right but that to its cache and to its socket: the node plugin mounts, and hands the descriptors
over. When it dies its workers die with it, readers wait, and the next one is handed the same descriptors.
"""

import argparse
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lazyfs.config import MountOptions
from lazyfs.core.allowance import PUBLIC
from lazyfs.errors import LazyfsError, UsageError
from lazyfs.parsing import parse_address, parse_allowed, parse_cache_size, parse_memory
from lazyfs.supervisor.messages import Message
from lazyfs.telemetry.listening import listen as listen_at
from lazyfs.telemetry.logs import configure
from lazyfs_csi.charge import Charge, Handed, Page, order_of
from lazyfs_csi.ending import caught
from lazyfs_csi.link import Link, Said
from lazyfs_csi.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_SOCKET = "/var/lib/kubelet/plugins/csi.lazyfs.dev/mounter/mounter.sock"
END_S = 2.0


class Mounter:
    """What is served here, and the link to the node plugin, which may come and go."""

    def __init__(self, own: MountOptions, *, node_identity: bool, observed: bool = False) -> None:
        """`observed`: workers serve HTTP, each at a port of the loopback, for `pages`."""
        self._own = own
        self._observed = observed
        self._node_identity = node_identity
        self._lock = threading.Lock()
        self._charges: dict[str, Charge] = {}
        self._link: Link | None = None

    def attend(self, link: Link) -> None:
        """Tell a node plugin what is here, then do what it says until it is gone. The last to come counts."""
        with self._lock:
            before, self._link = self._link, link
            held = [charge.handed for charge in self._charges.values()]
        if before is not None:
            before.close()
        for handed in held:
            link.send(Said.HELD, handed.said, handed.fds)
        link.send(Said.KNOWN, {"pid": os.getpid()})
        log.info("node_plugin_came held=%d", len(held))
        while (message := link.receive()) is not None:
            self._heed(message)
        with self._lock:
            if self._link is link:
                self._link = None
        link.let_go()
        log.info("node_plugin_went held=%d", len(self._charges))

    def _heed(self, message: Message) -> None:
        said = message.fields
        charge = self._charges.get(said.get("key", ""))
        if message.kind == Said.SERVE:
            self._serve(Handed(said, message.fds), charge)
        elif message.kind == Said.ACCESS and charge is not None:
            charge.use(said["environment"], said.get("identity", ""))
        elif message.kind == Said.END and charge is not None:
            charge.end()

    def _serve(self, handed: Handed, charge: Charge | None) -> None:
        """Serve a mount, if it is not served already."""
        if charge is not None:
            handed.close()
            return
        said = handed.said
        try:
            order = order_of(said, self._own)
        except LazyfsError as error:
            failure = {
                "error": error.cause,
                "cure": error.cure,
                "what": error.kind(),
                "exit_code": error.exit_code,
            }
            self._post(Said.FAILED, {"key": said["key"], **failure})
            handed.close()
            return
        if self._node_identity and not said["secret"]:
            order["environment"] = None
        listening = listen_at(("127.0.0.1", 0)) if self._observed else None
        charge = Charge(handed, order, self._post, self._forget, listening)
        with self._lock:
            self._charges[charge.key] = charge
        log.info(
            "volume_began source=%r key=%s again=%s", order["source"], charge.key, said["agreed"] is not None
        )
        charge.start()

    def _forget(self, charge: Charge) -> None:
        with self._lock:
            del self._charges[charge.key]

    def _post(self, kind: Said, fields: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        link = self._link
        if link is not None:
            link.send(kind, fields, fds)

    def pages(self) -> list[Page]:
        """Return where the workers that there are serve HTTP."""
        with self._lock:
            charges = list(self._charges.values())
        return [charge.page for charge in charges if charge.page is not None]

    def end(self) -> None:
        """End what is served: readers wait for whoever is handed it next."""
        with self._lock:
            charges = list(self._charges.values())
            self._link = None
        for charge in charges:
            charge.end()
        for charge in charges:
            charge.join(END_S)


def listen(path: Path) -> socket.socket:
    """Return the listening socket; one that another mounter has left, or still has, is replaced.

    Raises:
        UsageError: when that is not possible.

    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.unlink(missing_ok=True)
        sock.bind(str(made))
        made.chmod(0o600)
        sock.listen(8)
        made.rename(path)
    except OSError as error:
        sock.close()
        raise UsageError(
            f"cannot listen at {path}: {error.strerror}", "may its directory be written?"
        ) from None
    return sock


def settings() -> Settings:
    """Return the options there are."""
    found = Settings("lazyfs-mounter", "LAZYFS_MOUNTER", "Has the lazyfs volumes of a node served.")
    found.option("socket", "Where the node plugin comes to, as a path or unix:///...", DEFAULT_SOCKET,
                 parse=parse_socket)  # fmt: skip
    found.option("cache-dir", "Where blocks are kept.", "/var/cache/lazyfs", parse=Path)
    found.option("cache-size", "Budget of the cache; auto leaves a tenth of the file system free.", "auto",
                 parse=parse_cache_size)  # fmt: skip
    found.option("memory", "Budget for blocks in memory, of each volume.", "auto", parse=parse_memory)
    found.option(
        "allow-source", "Where sources may be, besides public addresses: private, loopback, link-local, a "
        "network like 10.1.0.0/16, a directory like file:///models/*; several with blanks between.",
        "private loopback", parse=parse_allowed_sources,
    )  # fmt: skip
    found.option(
        "http", "Serve /metrics of all volumes, /status and /healthz here, like :9400.", parse=parse_address
    )
    found.flag("allow-node-identity", "Volumes without a secret use the credentials of this process.")
    found.flag(
        "share-digests", "Volumes of different sources share files by digest, though only one has sent them: "
        "whoever knows the digest of a file of the cache can read it.",
    )  # fmt: skip
    found.logging()
    return found


def parse_socket(text: str) -> Path:
    """Return the path of a socket, which may be written as the node plugin wants it."""
    return Path(text.removeprefix("unix://"))


def parse_allowed_sources(text: str) -> tuple[str, ...]:
    """Return where sources may be; nothing said means nowhere but at public addresses.

    Raises:
        UsageError: when a word means nothing.

    """
    return tuple(map(parse_allowed, text.split())) or (PUBLIC,)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM. What is mounted stays mounted, and waits for the next mounter."""
    known = settings()
    try:
        given = known.read(arguments)
        configure(given.log_level, given.log_format, None)
        logging.getLogger("lazyfs_csi").setLevel(given.log_level)
        with caught() as wait:
            _run(given, wait)
    except LazyfsError as error:
        known.end(error, error.exit_code)
    finally:
        logging.shutdown()


def _run(given: argparse.Namespace, wait: Callable[[], None]) -> None:
    options: dict[str, Any] = {
        "cache_dir": given.cache_dir.absolute(), "cache_size": given.cache_size, "memory": given.memory,
        "allow_source": given.allow_source, "allow_other": True, "prove_digests": not given.share_digests,
        "log_format": given.log_format, "log_level": given.log_level,
    }  # fmt: skip
    mounter = Mounter(
        MountOptions(**options),
        node_identity=given.allow_node_identity, observed=given.http is not None,
    )  # fmt: skip
    if given.http is not None:
        from lazyfs_csi.metrics import Observed  # noqa: PLC0415 - http.server: 4 MB that not everybody needs

        Observed(given.http, mounter.pages)
    listening = listen(given.socket)
    threading.Thread(target=_accept, args=(listening, mounter), daemon=True, name="accept").start()
    log.info("serving mode=mounter endpoint=%r pid=%d", str(given.socket), os.getpid())
    wait()
    mounter.end()


def _accept(listening: socket.socket, mounter: Mounter) -> None:
    while True:
        link = Link(listening.accept()[0])
        if link.peer() not in {0, os.geteuid()}:
            log.warning("peer_refused uid=%d", link.peer())
            link.let_go()
            continue
        threading.Thread(target=mounter.attend, args=(link,), daemon=True, name="link").start()


if __name__ == "__main__":
    main()
