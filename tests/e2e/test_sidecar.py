"""The sidecar of deploy/examples, in mount namespaces as a container runtime makes them.

Its command is the example's, on other paths and with another source; propagation is real. Played are the
node, its emptyDir, the sidecar (`mountPropagation: Bidirectional`) and the engine (`HostToContainer`). What
Kubernetes itself decides, the order of starts and ends, is played too.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.deploy.objects import DEPLOY, read

pytestmark = pytest.mark.skipif(bool(os.geteuid()), reason="mount namespaces need root")

TIMEOUT_S = 20.0
MODEL = "llama-3-8b"


class Node:
    """A mount namespace with a file system that is shared, as /var/lib/kubelet is, and an emptyDir in it."""

    def __init__(self, root: Path) -> None:
        self.kubelet, self.at = root / "kubelet", root / "models"
        self.kubelet.mkdir()
        self.at.mkdir()
        self.volume = self.kubelet / "volume"
        script = (
            f"mount -t tmpfs none {self.kubelet} && mount --make-rshared {self.kubelet} && "
            f"mkdir {self.volume} && echo up && exec sleep 600"
        )
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE
        )
        assert b"up\n" == self.process.stdout.readline()

    def _inside(self, *command):
        return ["nsenter", "--mount", "--target", str(self.process.pid), *map(str, command)]

    def run(self, *command):
        """Run a command of the node to its end."""
        return subprocess.run(
            self._inside(*command), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )

    def container(self, propagation, script):
        """Start a container that has the volume at `self.at`, bound as a runtime binds it."""
        bound = f"mount --rbind {self.volume} {self.at} && {script}"
        return subprocess.Popen(
            self._inside("unshare", "--mount", "--propagation", propagation, "sh", "-c", bound),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def mounts(self):
        lines = self.run("cat", "/proc/self/mountinfo").stdout.splitlines()
        return [line for line in lines if f" {self.volume}/" in line]

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def node(tmp_path):
    found = Node(tmp_path)
    yield found
    found.end()


def command(node, place):
    """What the example has its sidecar run."""
    (deployment,) = read(DEPLOY / "examples" / "sidecar.yaml")
    (sidecar,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert ["sh", "-c"] == sidecar["command"]
    script = sidecar["args"][0]
    for theirs, ours in [
        (f"s3://models/{MODEL}", f"file://{place}/source"),
        (" --http :9400", ""),
        ("/cache/", f"{place}/cache/"),
        ("/models/", f"{node.at}/"),
        ("exec lazyfs", f"exec {sys.executable} -m lazyfs"),
    ]:
        assert theirs in script
        script = script.replace(theirs, ours)
    return script


@pytest.fixture
def sidecar(node):
    """Start the sidecar, and wait as its startup probe does."""
    started = []
    place = Path(tempfile.mkdtemp())  # pytest's directories are for one user only
    place.chmod(0o755)
    (place / "cache").mkdir(mode=0o777)
    (place / "source").mkdir()
    (place / "source" / "config.json").write_text("the model")

    def start():
        process = node.container("unchanged", command(node, place))
        started.append(process)
        deadline = time.monotonic() + TIMEOUT_S
        while node.run(sys.executable, "-m", "lazyfs", "ready", node.volume / MODEL).returncode:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)
    shutil.rmtree(place)


def engine(node):
    """A container that begins after the probe, and reads the model whenever it is told to."""
    return node.container("slave", f'while read _; do cat {node.at}/{MODEL}/config.json; echo " $?"; done')


def ask(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_an_engine_reads_what_a_sidecar_has_mounted_and_sigterm_leaves_nothing_behind(node, sidecar):
    mount, reader = sidecar(), engine(node)

    assert "the model 0\n" == ask(reader)
    reader.communicate(timeout=60)  # Kubernetes ends sidecars after all others
    mount.terminate()
    assert 0 == mount.wait(TIMEOUT_S)
    assert [] == node.mounts()
    assert 0 == node.run("rm", "-r", node.volume).returncode  # as kubelet does with an emptyDir


def test_a_sidecar_that_was_killed_is_started_again_and_the_engine_sees_the_new_mount(node, sidecar):
    mount, reader = sidecar(), engine(node)
    assert "the model 0\n" == ask(reader)
    mount.kill()
    mount.wait()
    assert 1 == node.run(sys.executable, "-m", "lazyfs", "ready", node.volume / MODEL).returncode

    again = sidecar()

    assert "the model 0\n" == ask(reader)
    assert 1 == len(node.mounts())
    reader.communicate(timeout=60)
    again.terminate()
    assert 0 == again.wait(TIMEOUT_S)
    assert [] == node.mounts()
