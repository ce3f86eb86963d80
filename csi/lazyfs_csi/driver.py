"""`lazyfs-csi`: what the kubelet (`--mode node`) or csi-provisioner (`--mode controller`) talks to."""

import argparse
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc

from lazyfs.errors import LazyfsError, UsageError
from lazyfs.parsing import parse_duration
from lazyfs.telemetry.logs import configure
from lazyfs_csi import DRIVER_NAME, claims
from lazyfs_csi.controller import Controller
from lazyfs_csi.ending import caught
from lazyfs_csi.identity import Identity
from lazyfs_csi.link import dial
from lazyfs_csi.mounts import Mounts
from lazyfs_csi.node import Node, Terms
from lazyfs_csi.records import Records
from lazyfs_csi.registration import Registration
from lazyfs_csi.serving import path_of, serve
from lazyfs_csi.settings import Settings, count, one_of
from lazyfs_csi.targets import Targets
from lazyfs_csi.wire import csi_pb2_grpc, registration_pb2_grpc

log = logging.getLogger(__name__)

DIAL_S, AGAIN_S = 1.0, 0.1
GRACE_S = 2.0
"""So long calls may still take when this is to end."""


def settings() -> Settings:
    """Return the options there are."""
    found = Settings("lazyfs-csi", "LAZYFS_CSI", "The CSI driver of lazyfs.")
    found.option("mode", "node or controller.", "node", parse=one_of("node", "controller"))
    found.option("endpoint", "The socket to serve at.", "unix:///csi/csi.sock", variable="CSI_ENDPOINT")
    found.option("driver-name", "As in the CSIDriver object.", DRIVER_NAME)
    found.option("node-id", "This node's name; node mode needs it.")
    found.option("kubelet-dir", "The kubelet's directory.", "/var/lib/kubelet", parse=Path)
    found.option(
        "state-dir", "Where mounts are, and what is remembered of them. Default: in the kubelet's directory, "
        "plugins/DRIVER.state.", parse=Path,
    )  # fmt: skip
    found.option(
        "mounter",
        "The mounter's socket, as unix:///... Default: in the kubelet's directory, "
        "plugins/DRIVER/mounter/mounter.sock.",
    )
    found.option(
        "mounter-uid", "Whose the directory of that socket is, if it is made here.", "65534", parse=int
    )
    found.option(
        "registration-dir",
        "Announce this to the kubelet here, instead of by node-driver-registrar.",
        parse=Path,
    )
    found.option("publish-timeout", "How long publishing waits for a source.", "100s", parse=parse_duration)
    found.option(
        "abort-after", "How long readers wait while nobody serves their mount.", "2m", parse=parse_duration
    )
    found.option("max-volumes", "How many volumes a node may have; 0 for any number.", "0", parse=count)
    found.flag("read-claims", "Controller: read sources from annotations of claims.")
    found.logging()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM. What is mounted stays mounted."""
    known = settings()
    try:
        given = known.read(arguments)
        configure(given.log_level, given.log_format, None)
        logging.getLogger("lazyfs_csi").setLevel(given.log_level)
        with ExitStack() as ends:
            _run(given, ends)
    except LazyfsError as error:
        known.end(error, error.exit_code)
    finally:
        logging.shutdown()


def _run(given: argparse.Namespace, ends: ExitStack) -> None:
    over = threading.Event()
    wait = ends.enter_context(caught())
    add = _controller(given) if given.mode == "controller" else _node(given, over)

    def register(server: grpc.Server) -> None:
        csi_pb2_grpc.add_IdentityServicer_to_server(Identity(given.driver_name), server)
        add(server)

    server = serve(given.endpoint, register)
    ends.callback(lambda: server.stop(GRACE_S).wait())
    if given.mode == "node" and given.registration_dir is not None:
        _register(given, ends)
    log.info(
        "serving mode=%s endpoint=%r driver=%r pid=%d",
        given.mode,
        given.endpoint,
        given.driver_name,
        os.getpid(),
    )
    wait()
    over.set()


def _controller(given: argparse.Namespace) -> Callable[[grpc.Server], None]:
    """Return what adds the controller to a server."""
    controller = Controller(claims.reader(given.driver_name) if given.read_claims else None)
    return lambda server: csi_pb2_grpc.add_ControllerServicer_to_server(controller, server)


def _node(given: argparse.Namespace, over: threading.Event) -> Callable[[grpc.Server], None]:
    """Find what is here, begin to look for the mounter, and return what adds the node to a server."""
    if not given.node_id:
        raise UsageError("--node-id is missing", "give it, or set LAZYFS_CSI_NODE_ID")
    plugin = given.kubelet_dir / "plugins" / given.driver_name
    # Not below the directory of the socket, which containers mount that have no use for copies of all mounts.
    state = given.state_dir or plugin.with_name(f"{plugin.name}.state")
    records = Records(state)
    mounts = Mounts(records, given.abort_after)
    targets = Targets(records, mounts)
    mounter = path_of(given.mounter or f"unix://{plugin}/mounter/mounter.sock")
    _make_for_mounter(mounter.parent, given.mounter_uid)
    for work in (partial(_stay_linked, mounter, mounts, over), partial(mounts.watch, over)):
        threading.Thread(target=work, daemon=True).start()
    terms = Terms(given.node_id, given.max_volumes, given.publish_timeout, records.salt)
    node = Node(terms, mounts, targets)
    add_controller = _controller(given)  # for csi-sanity, and csi-provisioner --node-deployment

    def add(server: grpc.Server) -> None:
        csi_pb2_grpc.add_NodeServicer_to_server(node, server)
        add_controller(server)

    return add


def _make_for_mounter(directory: Path, uid: int) -> None:
    """Make the directory the mounter puts its socket into: it is not root."""
    if not directory.exists():
        directory.mkdir(mode=0o700, parents=True)
        os.chown(directory, uid, uid)


def _stay_linked(path: Path, mounts: Mounts, over: threading.Event) -> None:
    while not over.is_set():
        link = dial(str(path), DIAL_S)
        if link is None:
            over.wait(AGAIN_S)
            continue
        try:
            mounts.attend(link)
        except Exception:
            log.exception("mounter_not_understood consequence=%r", "its link is closed, and made anew")
            link.close()
            mounts.unlinked(link)
            over.wait(AGAIN_S)


def _register(given: argparse.Namespace, ends: ExitStack) -> None:
    """Let the kubelet find this."""
    service = Registration(given.driver_name, str(path_of(given.endpoint)))
    endpoint = f"unix://{given.registration_dir}/{given.driver_name}-reg.sock"
    server = serve(
        endpoint, lambda server: registration_pb2_grpc.add_RegistrationServicer_to_server(service, server), 2
    )
    ends.callback(lambda: server.stop(GRACE_S).wait())
