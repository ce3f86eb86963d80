"""A container's sysfs may be read-only: the chart and the sidecar set the read-ahead all the same."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lazyfs.fuse.mountinfo import mounted_at
from lazyfs.fuse.tuning import READ_AHEADS
from scripts.deployment import rendered
from tests.csi.conftest import a_node
from tests.csi.rig import new_pod, until
from tests.deploy.containers import container, in_container
from tests.deploy.objects import DEPLOY, named, read
from tests.e2e.mounting import mounted

pytestmark = pytest.mark.skipif(bool(os.geteuid()), reason="namespaces need root")

SET, UNSET = "8192\n", "128\n"
WHY = (
    "read-ahead could not be set (Read-only file system): reads stay at 128 KiB, a third of the speed; "
    f"sysfs is read-only in this container: give it the host's {READ_AHEADS}, at the same path "
    "(Kubernetes: a hostPath volume)"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    found = tmp_path_factory.mktemp("source")
    (found / "config.json").write_text("{}")
    (found / "model.bin").write_bytes(bytes(1 << 20))
    return found


@pytest.fixture
def shared(tmp_path):
    """A directory whose mounts are seen here, whoever makes them."""
    found = tmp_path / "shared"
    found.mkdir()
    subprocess.run(["mount", "--bind", found, found], check=True)
    subprocess.run(["mount", "--make-shared", found], check=True)
    yield found
    subprocess.run(["umount", "--lazy", found], check=True)


def read_ahead(mountpoint):
    return Path(f"/sys/class/bdi/{mounted_at(mountpoint).device}/read_ahead_kb").read_text()


def the_chart_s():
    objects = [found for file in rendered().values() for found in file]
    return in_container(named(objects, "DaemonSet", "lazyfs-node")["spec"]["template"]["spec"], "node")


def the_sidecar_s():
    (deployment,) = read(DEPLOY / "examples" / "sidecar.yaml")
    return in_container(deployment["spec"]["template"]["spec"], "lazyfs")


def test_a_mount_says_that_sysfs_is_the_cause_and_what_to_do(source, shared, cache_dir):
    prefix = container({})
    with mounted(f"file://{source}", shared / "mnt", "--cache-dir", cache_dir, prefix=prefix) as mount:
        assert (UNSET, [WHY]) == (read_ahead(mount.path), mount.status()["untuned"])


def test_the_sidecar_sets_the_read_ahead(source, shared, cache_dir):
    prefix = the_sidecar_s()
    with mounted(f"file://{source}", shared / "mnt", "--cache-dir", cache_dir, prefix=prefix) as mount:
        assert (SET, []) == (read_ahead(mount.path), mount.status()["untuned"])


@pytest.fixture
def node(source):
    with a_node(allow=(f"file://{source}",)) as found:
        yield found


def test_the_node_plugin_says_that_sysfs_is_the_cause_and_what_to_do(node, source):
    node.plugin.prefix = container({})

    target = node.start().publish(new_pod(), {"source": f"file://{source}"})

    assert UNSET == read_ahead(target)
    (said,) = node.plugin.wait_for_log("untuned")
    assert said.endswith(f"WARNING untuned what={WHY!r}")


def test_the_node_plugin_of_the_chart_sets_the_read_ahead_and_ends_what_is_stuck(node, source):
    node.plugin.prefix = the_chart_s()
    pod = new_pod()
    target = node.start().publish(pod, {"source": f"file://{source}", "policy": "demand"})
    assert SET == read_ahead(target)

    (worker,) = node.workers()
    os.kill(node.mounter.process.pid, signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    reader = subprocess.Popen(["cat", target / "model.bin"], stdout=-3, stderr=-3)
    until(lambda: "request_wait_answer" in Path(f"/proc/{reader.pid}/wchan").read_text())
    node.unpublish(pod)
    assert reader.wait(20) != 0
    for pid in (node.mounter.process.pid, worker):
        os.kill(pid, signal.SIGCONT)
