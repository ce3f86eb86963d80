"""A node in little: the two processes of the driver as they run in Kubernetes, and a kubelet that calls them.

The node plugin is in a mount namespace of its own, whose kubelet directory is shared with this one as by
Bidirectional propagation; the mounter is in another, shares nothing, and has no capability.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import grpc

from lazyfs.fuse.mountinfo import lazyfs_mounts
from lazyfs_csi.wire import csi_pb2, csi_pb2_grpc, registration_pb2, registration_pb2_grpc

DRIVER = "csi.lazyfs.dev"
START_S = 60.0
PRIVATE = ["unshare", "--mount", "--propagation", "private"]
SHARED = ["unshare", "--mount", "--propagation", "unchanged"]
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
MODES = csi_pb2.VolumeCapability.AccessMode


ACCESS_MODES = {
    "ReadWriteOnce": MODES.SINGLE_NODE_WRITER,
    "ReadOnlyMany": MODES.MULTI_NODE_READER_ONLY,
    "ReadWriteMany": MODES.MULTI_NODE_MULTI_WRITER,
    "ReadWriteOncePod": MODES.SINGLE_NODE_WRITER,
}
"""What kubelet and csi-provisioner say of them to a driver without SINGLE_NODE_MULTI_WRITER."""


def pod_info(pod, namespace, *, ephemeral):
    """Return what the kubelet writes over the attributes, for a driver with `podInfoOnMount`."""
    return {
        "csi.storage.k8s.io/pod.name": pod,
        "csi.storage.k8s.io/pod.namespace": namespace,
        "csi.storage.k8s.io/pod.uid": pod,
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "csi.storage.k8s.io/ephemeral": str(ephemeral).lower(),
    }


def capability(mode=MODES.SINGLE_NODE_WRITER):
    return csi_pb2.VolumeCapability(mount={}, access_mode={"mode": mode})


class Process:
    """One of the two processes; its log is a file."""

    def __init__(self, name, command, environment, log):
        self.name = name
        self.prefix = []
        """What starts the command, besides what always does."""
        self.also = []
        """Options that are not always given."""
        self.command = command
        self.environment = environment
        self.log_file = log
        self.process = None

    def start(self):
        with self.log_file.open("ab") as log:
            command = self.prefix + self.command + self.also
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    def end(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def kill(self):
        self.end(signal.SIGKILL)

    @property
    def log(self):
        return self.log_file.read_text() if self.log_file.exists() else ""

    def logged(self, event):
        return [line for line in self.log.splitlines() if f" {event} " in line]

    def wait_for_log(self, event, count=1):
        """Wait until an event has been logged so often, which is some time after it; return its lines."""
        until(lambda: len(self.logged(event)) >= count)
        return self.logged(event)

    def rss_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Node:
    """The node. Everything is below `root`, which is a mount of its own that is shared."""

    def __init__(self, root, environment, allow=("loopback", "private"), **options):
        self.root = Path(root)
        self.kubelet = self.root / "kubelet"
        self.plugin_dir = self.kubelet / "plugins" / DRIVER
        self.state = self.kubelet / "plugins" / f"{DRIVER}.state"
        self.registry = self.kubelet / "plugins_registry"
        self.cache = self.root / "cache"
        for directory in (self.kubelet, self.plugin_dir, self.registry):
            directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", self.kubelet, self.kubelet], check=True)
        subprocess.run(["mount", "--make-shared", self.kubelet], check=True)
        paths = os.pathsep.join([*options.pop("before", ()), *(path for path in sys.path if path)])
        plain = {
            name: text
            for name, text in environment.items()
            if not name.startswith(("AWS_", "HF_", "LAZYFS_"))
        }
        self.socket = self.plugin_dir / "csi.sock"
        self.plugin = Process(
            "plugin",
            [*SHARED, sys.executable, "-m", "lazyfs_csi", "--node-id", "node-1",
             "--kubelet-dir", str(self.kubelet),
             "--endpoint", f"unix://{self.socket}", "--log-format", "text",
             "--registration-dir", str(self.registry), "--mounter-uid", "0", *options.pop("plugin", ())],
            plain | {"PYTHONPATH": paths}, self.root / "plugin.log",
        )  # fmt: skip
        self.mounter = Process(
            "mounter",
            [*PRIVATE, *UNPRIVILEGED, sys.executable, "-m", "lazyfs_csi.mounter",
             "--socket", str(self.plugin_dir / "mounter" / "mounter.sock"), "--cache-dir", str(self.cache),
             "--log-format", "text", "--allow-source", " ".join(allow), *options.pop("mounter", ())],
            environment | {"PYTHONPATH": paths}, self.root / "mounter.log",
        )  # fmt: skip
        self.channel = grpc.insecure_channel(
            f"unix://{self.socket}",
            options=[("grpc.default_authority", "localhost"), ("grpc.max_reconnect_backoff_ms", 200),
                     ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)],
        )  # fmt: skip
        self.calls = csi_pb2_grpc.NodeStub(self.channel)
        self.identity = csi_pb2_grpc.IdentityStub(self.channel)

    def start(self):
        self.mounter.start()
        self.plugin.start()
        self.answering()
        return self

    def answering(self):
        """Wait until the plugin does; a call over a connection to one that is gone counts for nothing."""

        def answered():
            with suppress(grpc.RpcError):
                return self.identity.Probe(csi_pb2.ProbeRequest(), wait_for_ready=True, timeout=START_S)

        until(answered, START_S)

    def close(self):
        self.channel.close()
        self.plugin.end()
        self.mounter.end()
        for mounted in reversed(lazyfs_mounts()):
            if mounted.mountpoint.startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", mounted.mountpoint], check=False, capture_output=True)
        subprocess.run(["umount", "--lazy", self.kubelet], check=False)

    # -- what a kubelet does (pkg/volume/csi of Kubernetes 1.36) -------------------------------------

    def target(self, pod, name="model"):
        """Return where the kubelet wants a pod's volume; it makes the directory above, and a file in it."""
        found = self.kubelet / "pods" / pod / "volumes" / "kubernetes.io~csi" / name / "mount"
        found.parent.mkdir(parents=True, exist_ok=True)
        (found.parent / "vol_data.json").write_text(json.dumps({"driverName": DRIVER, "specVolID": name}))
        return found

    def publish(
        self, pod, attributes, secrets=None, *, namespace="default", target=None, volume_id=None, timeout=60
    ):
        target = target or self.target(pod)
        call = self.publishing(
            pod, attributes, secrets, namespace=namespace, target=target, volume_id=volume_id, timeout=timeout
        )
        call.result()
        return target

    def publishing(
        self, pod, attributes, secrets=None, *, namespace="default", target=None, volume_id=None, timeout=60
    ):
        """Begin to publish an inline volume; return the call, which can be cancelled."""
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=volume_id or f"csi-{pod}", target_path=str(target or self.target(pod)),
            volume_capability=capability(), readonly=True, secrets=secrets or {},
            volume_context=attributes | pod_info(pod, namespace, ephemeral=True),
        )  # fmt: skip
        return self._publishing(request, timeout)

    def publish_volume(self, pod, volume, secrets=None, *, namespace="default", publish_context=None):
        """Publish a PersistentVolume (`provisioner.PersistentVolume`) in a pod."""
        target = self.target(pod, volume.name)
        mount = {"fs_type": volume.fs_type, "mount_flags": volume.mount_options}
        mode = ACCESS_MODES[volume.access_modes[0]]
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=volume.handle, target_path=str(target), readonly=volume.read_only,
            volume_capability={"mount": mount, "access_mode": {"mode": mode}},
            publish_context=publish_context or {}, secrets=secrets or {},
            volume_context=volume.attributes | pod_info(pod, namespace, ephemeral=False),
        )  # fmt: skip
        self._publishing(request, 60).result()
        return target

    def _publishing(self, request, timeout):
        self._capabilities(timeout)
        return self.calls.NodePublishVolume.future(request, timeout=timeout, wait_for_ready=True)

    def _capabilities(self, timeout=30):
        """Ask what the driver can, which the kubelet does before most calls: nothing is staged, then."""
        request = csi_pb2.NodeGetCapabilitiesRequest()
        found = self.calls.NodeGetCapabilities(request, timeout=timeout, wait_for_ready=True).capabilities
        kinds = {one.rpc.type for one in found}
        assert csi_pb2.NodeServiceCapability.RPC.STAGE_UNSTAGE_VOLUME not in kinds
        return kinds

    def unpublish(self, pod, target=None, volume_id=None, timeout=30):
        request = csi_pb2.NodeUnpublishVolumeRequest(
            volume_id=volume_id or f"csi-{pod}", target_path=str(target or self.target(pod))
        )
        self.calls.NodeUnpublishVolume(request, timeout=timeout, wait_for_ready=True)

    def taken_away(self, pod):
        """Unpublish a pod's volume, unless another call still works on it; return whether it is done."""
        try:
            self.unpublish(pod)
        except grpc.RpcError as error:
            assert grpc.StatusCode.ABORTED is error.code()
            return False
        return True

    def stats(self, pod, target=None, volume_id=None):
        assert csi_pb2.NodeServiceCapability.RPC.GET_VOLUME_STATS in self._capabilities()
        return self.calls.NodeGetVolumeStats(
            csi_pb2.NodeGetVolumeStatsRequest(
                volume_id=volume_id or f"csi-{pod}", volume_path=str(target or self.target(pod))
            ),
            timeout=30, wait_for_ready=True,
        )  # fmt: skip

    # -- what there is -------------------------------------------------------------------------------

    def mounts(self):
        """Return the paths of our mounts on this node: the sources', and the targets'."""
        own = [Path(m.mountpoint) for m in lazyfs_mounts() if m.mountpoint.startswith(f"{self.root}/")]
        sources = [path for path in own if path.parent == self.state / "mounts"]
        return sources, [path for path in own if path not in sources]

    def workers(self):
        """Return the processes that serve."""
        pid = self.mounter.process.pid
        found = []
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
        return found


def until(condition, seconds=60.0):
    """Wait until a condition holds; return what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def new_pod():
    return str(uuid.uuid4())


def registered_by(node):
    """Do what the kubelet does when it finds a socket in its registry directory; return the endpoint."""
    (path,) = node.registry.glob("*.sock")
    with grpc.insecure_channel(f"unix://{path}") as channel:
        stub = registration_pb2_grpc.RegistrationStub(channel)
        info = stub.GetInfo(registration_pb2.InfoRequest(), timeout=30)
        with grpc.insecure_channel(f"unix://{info.endpoint}") as driver:
            csi_pb2_grpc.NodeStub(driver).NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=30)
        stub.NotifyRegistrationStatus(registration_pb2.RegistrationStatus(plugin_registered=True), timeout=30)
    return info


def unreachable():
    """Return an address of this machine where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"
