"""What can go wrong on a node besides the death of a process: one thing at a time."""

import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from lazyfs.fuse.channel import detach
from lazyfs.fuse.mountinfo import mounted_at
from tests.csi.conftest import a_node
from tests.csi.rig import new_pod, until
from tests.faults.blackhole import black_hole


@pytest.fixture
def volume(hosted):
    return {"source": hosted.address}


def refused(call, *arguments, **named):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    return caught.value.code(), caught.value.details()


def restarted(node):
    met = len(node.plugin.wait_for_log("mounter_came"))
    node.plugin.kill()
    node.plugin.start()
    node.answering()
    node.plugin.wait_for_log("mounter_came", met + 1)


def gone(node):
    until(lambda: ([], []) == node.mounts() and node.workers() == [])
    assert [] == [*node.state.glob("*/*.json")]


def test_a_container_s_second_view_of_a_mount_is_no_pod(node, volume, secrets):
    """A runtime that starts the plugin anew gives it, with /csi, private copies of what is mounted below."""
    pod = new_pod()
    node.publish(pod, volume, secrets)
    second = node.root / "second"
    second.mkdir()
    shell = f'mount --rbind {node.kubelet}/plugins {second} && mount --make-rprivate {second} && exec "$@"'
    node.plugin.prefix = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", shell, "sh"]

    restarted(node)
    node.publish(pod, volume, secrets)
    node.unpublish(pod)

    gone(node)
    seen = Path(f"/proc/{node.plugin.process.pid}/mountinfo").read_text()
    assert [] == [line for line in seen.splitlines() if str(node.root) in line and "fuse.lazyfs" in line]


def test_the_mounts_are_not_below_the_directory_of_the_socket(node, volume, secrets):
    """Which the registrar's container mounts, too: its copies would outlast the mounts."""
    node.publish(new_pod(), volume, secrets)

    sources, targets = node.mounts()
    assert [] == [path for path in (*sources, *targets) if path.is_relative_to(node.plugin_dir)]


def test_credentials_that_were_renewed_are_still_so_for_the_next_plugin(node, volume, secrets, seaweed):
    """Else one who shows the old ones would share a mount that is served with the new ones."""
    first, second = new_pod(), new_pod()
    node.publish(first, volume, secrets)
    node.publish(first, volume, secrets | {"AWS_SESSION_TOKEN": "of-now"})
    restarted(node)

    node.publish(second, volume, secrets)

    assert 2 == len(node.mounts()[0])


def test_a_caller_in_a_hurry_is_served_all_the_same(node, volume, secrets):
    node.publish(new_pod(), volume, secrets)  # the first one of a node takes longer

    node.publish(new_pod(), volume, secrets | {"AWS_REGION": "us-east-1"}, timeout=4)


def test_nobody_waits_for_a_caller_that_is_gone(node, secrets):
    """A kubelet that was restarted may want the volume taken away."""
    pod = new_pod()
    with black_hole() as port:
        unanswering = secrets | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        target = node.target(pod)
        call = node.publishing(pod, {"source": "s3://any/where"}, unanswering)
        until(lambda: node.mounts()[0])
        call.cancel()

        until(lambda: node.taken_away(pod))

        assert not target.exists()
        gone(node)


def test_what_somebody_else_has_mounted_at_a_target_stays_and_nothing_of_ours_does(node, volume, secrets):
    pod = new_pod()
    target = node.target(pod)
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "theirs", target], check=True)
    try:
        code, said = refused(node.publish, pod, volume, secrets)
        assert grpc.StatusCode.INTERNAL is code
        assert f"theirs is mounted at {target}; unmount it" == said
        assert "theirs" == mounted_at(target).source
        assert (
            f"theirs is mounted at {target}; it is not lazyfs's to unmount" == refused(node.unpublish, pod)[1]
        )
    finally:
        subprocess.run(["umount", target], check=True)
    node.publish(pod, volume, secrets)
    subprocess.run(["mount", "-t", "tmpfs", "theirs", target], check=True)
    try:
        refused(node.unpublish, pod)
    finally:
        subprocess.run(["umount", target], check=True)
    node.unpublish(pod)
    gone(node)


def test_a_target_that_is_a_link_is_refused_and_nothing_is_mounted_where_it_leads(
    node, volume, secrets, tmp_path
):
    pod = new_pod()
    target = node.target(pod)
    target.symlink_to(tmp_path)

    code, said = refused(node.publish, pod, volume, secrets)

    assert (grpc.StatusCode.INTERNAL, f"{target} is not a directory; remove it") == (code, said)
    assert mounted_at(tmp_path) is None
    node.unpublish(pod)
    assert not target.is_symlink()
    gone(node)


def test_a_directory_of_state_that_was_removed_is_made_anew(node, volume, secrets):
    before, after = new_pod(), new_pod()
    node.publish(before, volume, secrets)
    for name in ("targets", "volumes"):
        shutil.rmtree(node.state / name)

    node.publish(after, volume, secrets)

    for pod in (before, after):
        node.unpublish(pod)
    gone(node)


def test_state_that_cannot_be_written_is_said_and_leaves_nothing(node, volume, secrets):
    first, second = new_pod(), new_pod()
    node.publish(first, volume, secrets)
    shutil.rmtree(node.state / "targets")
    (node.state / "targets").write_text("")

    code, said = refused(node.publish, second, volume, secrets)

    assert grpc.StatusCode.INTERNAL is code
    assert said.startswith(f"{node.state}/targets/")
    assert said.endswith(".json cannot be written: File exists; see the node's disk")
    node.unpublish(first)
    until(lambda: ([], []) == node.mounts())
    (node.state / "targets").unlink()


def test_what_is_not_ours_in_the_state_directory_does_not_keep_the_plugin_from_starting(
    node, volume, secrets
):
    pod = new_pod()
    node.publish(pod, volume, secrets)
    (node.state / "mounts" / "file").write_text("")
    (node.state / "mounts" / "directory" / "in it").mkdir(parents=True)
    (node.state / "volumes" / "half.json").write_text('{"name": "x')
    (node.state / "targets" / "none.json").write_text("{}")

    restarted(node)

    node.publish(pod, volume, secrets)
    node.unpublish(pod)
    until(lambda: ([], []) == node.mounts())


def test_a_mount_that_somebody_took_away_is_not_shown_as_an_empty_directory(node, volume, secrets):
    before, after = new_pod(), new_pod()
    node.publish(before, volume, secrets)
    detach(node.mounts()[0][0])

    target = node.publish(after, volume, secrets)

    assert "config.json" in os.listdir(target)
    for pod in (before, after):
        node.unpublish(pod)
    gone(node)


@pytest.mark.parametrize("where", ["attribute", "secret"])
def test_nobody_s_volume_is_too_much_for_the_two_processes(node, volume, secrets, where):
    """What is too long for a message would break the link between them, again and again."""
    attributes, shown = dict(volume), dict(secrets)
    if where == "attribute":
        attributes["include"] = "x" * 300_000
    else:
        shown["AWS_SESSION_TOKEN"] = "x" * 300_000

    code, said = refused(node.publish, new_pod(), attributes, shown)

    what = "attribute include" if where == "attribute" else "the secret's AWS_SESSION_TOKEN"
    assert grpc.StatusCode.INVALID_ARGUMENT is code
    assert f"{what} is too long; all together may have 24 KiB" == said
    node.publish(new_pod(), volume, secrets)
    assert 1 == len(node.plugin.wait_for_log("mounter_came"))


def test_a_mounter_that_talks_nonsense_is_asked_anew(volume, secrets):
    """It is another version's, or worse: the plugin must outlast it."""
    import json
    import socket

    with a_node() as node:
        path = node.plugin_dir / "mounter" / "mounter.sock"
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(str(path))
            listening.listen()
            node.plugin.start()
            sock, _ = listening.accept()
            with sock:
                sock.send(json.dumps({"kind": "held", "nothing": 1}).encode())
                assert b"" == sock.recv(1)
        path.unlink()
        node.mounter.start()
        node.answering()

        node.publish(new_pod(), volume, secrets)

        node.plugin.log_file.write_text(node.plugin.log.replace("Traceback", "expected"))


def test_the_kernel_s_read_ahead_is_what_the_volume_wants(node, volume, secrets):
    usual, own = new_pod(), new_pod()
    found = [
        Path(f"/sys/class/bdi/{mounted_at(target).device}/read_ahead_kb")
        for target in (
            node.publish(usual, volume, secrets),
            node.publish(own, volume | {"readAhead": "2MiB"}, secrets),
        )
    ]

    assert ["8192\n", "2048\n"] == [file.read_text() for file in found]
