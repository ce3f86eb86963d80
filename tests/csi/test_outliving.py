"""Either process dies, is upgraded, comes back: readers wait a moment and get the right bytes."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from lazyfs.demo.link import Link
from lazyfs.fuse.channel import detach
from lazyfs.fuse.mountinfo import mounted_at
from tests.csi.conftest import a_node
from tests.csi.rig import DRIVER, new_pod, registered_by, until
from tests.e2e.test_outlives import WITHOUT_RESEND, check, readers_of
from tests.faults.aborting import ABORT_ERROR, abort

SHARD = "model-00001-of-00003.safetensors"
TGKILL = 234
"""The number of the system call, on x86-64."""


@pytest.fixture
def slowly(seaweed, secrets):
    """Secrets of a way to the S3 server on which the model takes four seconds."""
    link = Link(("127.0.0.1", seaweed.port), rate_bytes_per_s=11_000_000)
    yield secrets | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{link.port}"}
    link.close()


@pytest.fixture
def slowest(seaweed, secrets):
    """Secrets of a way on which no reader is at its end before the test is."""
    link = Link(("127.0.0.1", seaweed.port), rate_bytes_per_s=300_000)
    yield secrets | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{link.port}"}
    link.close()


@pytest.fixture
def volume(hosted):
    return {"source": hosted.address}


def replaced(process, number):
    process.end(number)
    process.start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("which", ["plugin", "mounter"])
def test_readers_go_on_while_a_process_is_replaced_again_and_again(
    node, volume, slowly, digests, which, number
):
    pods = [new_pod(), new_pod()]
    targets = [node.publish(pod, volume, slowly) for pod in pods]
    readers = [reader for target in targets for reader in readers_of(target, ("mmap", "direct"))]

    for _ in range(3):
        time.sleep(0.4)
        replaced(getattr(node, which), number)
        node.answering()
        node.publish(pods[0], volume, slowly)

    check(readers, digests)
    assert (1, 2) == tuple(map(len, node.mounts()))
    until(lambda: not node.stats(pods[0]).volume_condition.abnormal)
    # The device's name begins anew with the namespace it was opened in, if that is gone.
    held = [[name for name in held_by(one) if name.endswith("/fuse")] for one in (node.plugin, node.mounter)]
    assert [1, 1] == list(map(len, held))
    for pod in pods:
        node.unpublish(pod)
    assert ([], []) == node.mounts()
    until(lambda: node.workers() == [])


def held_by(process):
    """Return what a process has open."""
    found = []
    for fd in Path(f"/proc/{process.process.pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(fd.readlink()))
    return found


def test_on_an_older_kernel_the_next_mounter_s_workers_remember_for_the_one_before(
    volume, slowly, digests, tmp_path
):
    """Such a kernel does not send again what a dead worker had taken: shared memory has it, on both sides."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_RESEND)
    with a_node(before=[str(tmp_path)]) as node:
        target = node.start().publish(new_pod(), volume, slowly)
        assert 2 == len([name for name in held_by(node.plugin) if "memfd:lazyfs-" in name]), "manifest, table"
        readers = readers_of(target, ("mmap", "pread", "direct"))

        for process in (node.mounter, node.plugin, node.mounter, node.mounter):
            time.sleep(0.3)
            met = len(node.plugin.wait_for_log("mounter_came"))
            replaced(process, signal.SIGKILL)
            node.plugin.wait_for_log("mounter_came", met + 1)

        check(readers, digests)


KEEP = """
import hashlib, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
print("open", flush=True)
sys.stdin.read()
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(hashlib.sha256(mapped).hexdigest())
"""


def test_what_is_open_and_mapped_outlives_both_one_after_the_other(node, volume, secrets, digests):
    target = node.publish(new_pod(), volume, secrets)
    command = [sys.executable, "-c", KEEP, target / SHARD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert "open\n" == keeper.stdout.readline()
        for process in (node.plugin, node.mounter, node.plugin, node.mounter):
            met = len(node.plugin.wait_for_log("mounter_came"))
            process.kill()
            process.start()
            node.answering()
            node.plugin.wait_for_log("mounter_came", met + 1)

        assert digests[SHARD] == keeper.communicate(timeout=30)[0].strip()


def test_what_was_taken_away_while_one_was_gone_stays_away(node, volume, secrets):
    pods = [new_pod(), new_pod()]
    for pod in pods:
        node.publish(pod, volume, secrets)

    node.mounter.kill()
    for pod in pods:
        node.unpublish(pod)
    node.mounter.start()

    node.plugin.wait_for_log("mounter_came", 2)
    assert ([], []) == node.mounts()
    assert [] == node.workers()


def test_a_target_that_somebody_unmounted_while_the_plugin_was_gone_is_shown_anew(node, volume, secrets):
    pod = new_pod()
    target = node.publish(pod, volume, secrets)
    node.plugin.kill()
    detach(target)
    node.plugin.start()
    node.answering()

    node.publish(pod, volume, secrets)

    assert (target / "config.json").read_bytes()


def test_both_gone_at_once_is_the_end_of_a_mount_and_of_nothing_else(node, volume, secrets):
    before, after = new_pod(), new_pod()
    target = node.publish(before, volume, secrets)
    for process in (node.plugin, node.mounter):
        process.kill()
    for process in (node.plugin, node.mounter):
        process.start()
    node.answering()

    with pytest.raises(OSError, match="not connected"):
        os.listdir(target)
    assert (node.publish(after, volume, secrets) / "config.json").read_bytes()
    stats = node.stats(before)
    assert stats.volume_condition.abnormal
    assert "the mount has ended: its readers get errors; delete the pod" == stats.volume_condition.message
    node.publish(before, volume, secrets)
    for pod in (before, after):
        node.unpublish(pod)
    assert ([], []) == node.mounts()


@pytest.mark.parametrize("kernel", [ABORT_ERROR, ""], ids=["ECONNABORTED", "ENODEV"])
def test_a_connection_that_somebody_aborts_ends_its_mount_and_no_other(hosted, slowest, tmp_path, kernel):
    (tmp_path / "sitecustomize.py").write_text(kernel)
    pods, other = [new_pod(), new_pod()], {"source": hosted.address, "policy": "demand"}
    with a_node(before=[str(tmp_path)]) as node:
        target = node.start().publish(pods[0], {"source": hosted.address}, slowest)
        spared = node.publish(pods[1], other, slowest)
        readers = readers_of(target, ("pread",))
        status = target / ".lazyfs" / "status.json"
        until(lambda: json.loads(status.read_text())["oldest_wait_s"])

        abort(mounted_at(target).device)

        for _, reader in readers:
            reader.communicate(timeout=60)
            assert reader.returncode
        (said,) = node.plugin.wait_for_log("mount_dead")
        assert f"source={hosted.address!r} why='its connection was aborted' targets=1" in said
        assert node.stats(pods[0]).volume_condition.abnormal
        assert (spared / "config.json").read_bytes()
        for pod in pods:
            node.unpublish(pod)
        assert ([], []) == node.mounts()


def test_readers_do_not_wait_for_ever_for_a_mounter(volume, secrets):
    with a_node(plugin=["--abort-after", "2s"]) as node:
        pod = new_pod()
        target = node.start().publish(pod, volume | {"policy": "demand"}, secrets)
        node.mounter.kill()
        reader = subprocess.Popen(["cat", target / SHARD], stdout=-3, stderr=-3)

        assert reader.wait(60) != 0
        node.plugin.wait_for_log("mount_dead")
        node.unpublish(pod)
        assert ([], []) == node.mounts()


def test_a_publish_waits_for_the_mounter_to_come_back(node, volume, secrets):
    node.mounter.kill()
    pod = new_pod()
    with ThreadPoolExecutor(1) as threads:
        published = threads.submit(node.publish, pod, volume, secrets)
        until(lambda: node.mounts()[0])
        node.mounter.start()

        assert (published.result(60) / "config.json").read_bytes()


def test_the_kubelet_finds_the_plugin_and_finds_it_again(node):
    for count in (1, 2):
        info = registered_by(node)
        assert ("CSIPlugin", DRIVER, str(node.socket)) == (info.type, info.name, info.endpoint)
        assert ["1.0.0"] == list(info.supported_versions)
        # Lines are written by a thread of their own: one that is killed at once has not written its last.
        assert count == len(node.plugin.wait_for_log("registered", count))
        node.plugin.kill()
        node.plugin.start()
        node.answering()


def test_a_stranger_s_calls_are_not_served(node):
    """The socket is its owner's."""
    assert 0o600 == node.socket.stat().st_mode & 0o777
    socket = node.plugin_dir / "mounter" / "mounter.sock"
    until(socket.exists)
    assert 0o600 == socket.stat().st_mode & 0o777


def test_a_source_that_does_not_become_one_leaves_the_next_call_a_clean_place(node, volume, secrets):
    pod = new_pod()
    with pytest.raises(grpc.RpcError):
        node.publish(pod, {"source": "s3://nowhere-at-all"}, secrets)

    assert (node.publish(pod, volume, secrets) / "config.json").read_bytes()


@pytest.mark.parametrize("which", ["plugin", "mounter"])
def test_a_process_ends_whichever_of_its_threads_is_told(node, which):
    """The kernel may give a signal to any of them."""
    process = getattr(node, which).process
    *_, thread = sorted(Path(f"/proc/{process.pid}/task").iterdir(), key=lambda path: int(path.name))

    assert 0 == ctypes.CDLL(None).syscall(TGKILL, process.pid, int(thread.name), signal.SIGTERM)

    assert 0 == process.wait(60)
