"""Volumes in pods, with real mounts: shown, shared, taken away."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.csi.rig import PRIVATE, capability, new_pod, until
from tests.e2e.test_outlives import check, readers_of
from tests.faults.blackhole import black_hole


@pytest.fixture
def volume(hosted):
    return {"source": hosted.address}


def test_a_pod_has_its_model_and_nothing_is_left_behind(node, volume, secrets, model):
    pod = new_pod()

    target = node.publish(pod, volume, secrets)

    assert (model / "config.json").read_bytes() == (target / "config.json").read_bytes()
    assert sorted(os.listdir(model)) == sorted(os.listdir(target))
    node.unpublish(pod)
    assert ([], []) == node.mounts()
    assert not target.exists()
    until(lambda: node.workers() == [])
    assert [] == list((node.state / "targets").iterdir())
    assert [] == list((node.state / "volumes").iterdir())


def test_thirty_pods_share_one_mount_one_worker_and_one_download(node, volume, secrets, digests):
    pods = [new_pod() for _ in range(30)]
    with ThreadPoolExecutor(30) as threads:
        targets = list(threads.map(lambda pod: node.publish(pod, volume, secrets), pods))
        sources, shown = node.mounts()
        assert (1, 30) == (len(sources), len(shown))
        assert 1 == len({target.stat().st_dev for target in targets})
        assert 1 == len(node.workers())
        check([reader for target in targets[::10] for reader in readers_of(target, ("pread",))], digests)
        stats = until(lambda: complete(node.stats(pods[0])))
        assert stats.usage[0].total == stats.usage[0].used

        out_of_order = pods[::2] + pods[1::2]
        list(threads.map(node.unpublish, out_of_order))

    node.unpublish(pods[3])
    node.unpublish(new_pod())
    assert ([], []) == node.mounts()
    until(lambda: node.workers() == [])


def complete(stats):
    usage = stats.usage[0]
    return stats if usage.total and not usage.available else None


def test_two_identities_never_share(node, volume, secrets):
    shared = [("a", secrets), ("a", dict(reversed(secrets.items())))]
    apart = [("b", secrets), ("a", secrets | {"HF_TOKEN": "hf_other"})]

    for namespace, shown in shared + apart:
        node.publish(new_pod(), volume, shown, namespace=namespace)

    assert 3 == len(node.mounts()[0]) == len(node.workers())


def test_a_wrong_secret_gets_nothing_of_a_mount_that_is_there(node, volume, secrets):
    node.publish(new_pod(), volume, secrets)

    with pytest.raises(grpc.RpcError) as caught:
        node.publish(new_pod(), volume, secrets | {"AWS_SECRET_ACCESS_KEY": "guess"})

    assert grpc.StatusCode.UNAUTHENTICATED is caught.value.code()
    assert (1, 1) == tuple(map(len, node.mounts()))


def test_asked_again_and_again_it_is_shown_once(node, volume, secrets):
    pod = new_pod()
    for _ in range(5):
        node.publish(pod, volume, secrets)

    assert (1, 1) == tuple(map(len, node.mounts()))


def test_asked_again_it_never_fails_whatever_the_secret_has_become(node, volume, secrets):
    pod = new_pod()
    target = node.publish(pod, volume, secrets)

    node.publish(pod, volume, {"nothing": "known"})
    node.publish(pod, volume, {})

    assert (target / "config.json").read_bytes()


def test_a_target_that_shows_another_volume_is_not_taken(node, volume, secrets):
    pod = new_pod()
    target = node.publish(pod, volume, secrets)

    for asked in ({"volume_id": "csi-other"}, {}):
        with pytest.raises(grpc.RpcError) as caught:
            node.publish(
                pod, volume | ({} if asked else {"policy": "demand"}), secrets, target=target, **asked
            )
        assert grpc.StatusCode.ALREADY_EXISTS is caught.value.code()


def test_it_is_read_only_whatever_is_asked_for(node, volume, secrets):
    target = node.publish(new_pod(), volume, secrets)

    with pytest.raises(OSError, match="Read-only"):
        (target / "new").write_bytes(b"")


def test_a_container_has_it_by_its_own_mount_and_by_subpath(node, volume, secrets, tmp_path):
    """A runtime binds the target into a namespace that nothing propagates to; KServe a directory below it."""
    target = node.publish(new_pod(), volume, secrets)
    script = f"mount --rbind {target} {tmp_path}; cat {tmp_path}/config.json"
    script += f"; mount --bind {target}/sub {tmp_path}; ls {tmp_path}"

    ran = subprocess.run([*PRIVATE, "sh", "-ec", script], capture_output=True, text=True, check=True)

    assert ['{"model_type": "test"}tokenizer.json'] == ran.stdout.split("\n")[:-1]


def test_new_credentials_reach_the_worker_without_a_remount(node, volume, secrets, model):
    pod, wrong = new_pod(), secrets | {"AWS_SECRET_ACCESS_KEY": "rotated away"}
    demand = volume | {"policy": "demand", "cacheSize": "0"}
    target = node.publish(pod, demand, secrets)
    (worker,) = node.workers()
    sources = node.mounts()[0]

    node.publish(pod, demand, wrong)
    with pytest.raises(PermissionError):
        (target / "sub" / "tokenizer.json").read_bytes()
    node.publish(pod, demand, secrets)

    name = "model-00001-of-00003.safetensors"
    assert (model / name).read_bytes() == (target / name).read_bytes()
    assert ([worker], sources) == (node.workers(), node.mounts()[0])
    assert 2 == len(node.plugin.wait_for_log("credentials_renewed", 2))


def test_stats_are_those_of_the_model(node, volume, secrets, model):
    pod = new_pod()
    node.publish(pod, volume, secrets)

    stats = until(lambda: complete(node.stats(pod)))

    files = [file for file in model.rglob("*") if file.is_file()]
    assert (sum(file.stat().st_size for file in files), len(files)) == tuple(u.total for u in stats.usage)
    assert not stats.volume_condition.abnormal


def test_what_is_stuck_is_taken_away(node, volume, secrets):
    """The worker and its supervisor stand still, and a reader waits for them."""
    pod = new_pod()
    target = node.publish(pod, volume | {"policy": "demand"}, secrets)
    stopped = [node.mounter.process.pid, *node.workers()]
    for pid in stopped:
        os.kill(pid, 19)
    reader = subprocess.Popen(["cat", target / "model-00001-of-00003.safetensors"], stdout=-3, stderr=-3)
    time.sleep(0.3)

    node.unpublish(pod)

    assert ([], []) == node.mounts()
    assert reader.wait(30) != 0
    for pid in stopped:
        os.kill(pid, 18)


def test_a_call_on_a_target_that_another_call_works_on_is_put_off(node, volume, secrets, unanswering):
    pod = new_pod()
    call = node.publishing(pod, volume, unanswering)
    until(lambda: node.mounts()[0])

    with pytest.raises(grpc.RpcError) as caught:
        node.unpublish(pod)

    assert grpc.StatusCode.ABORTED is caught.value.code()
    call.cancel()
    until(lambda: node.taken_away(pod))


@pytest.fixture
def unanswering(secrets):
    """Secrets of an endpoint that says nothing."""
    with black_hole() as port:
        yield secrets | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def test_a_block_volume_is_refused(node):
    from lazyfs_csi.wire import csi_pb2

    request = csi_pb2.NodePublishVolumeRequest(
        volume_id="v", target_path=str(node.target("p")), volume_capability=capability(), volume_context={}
    )
    request.volume_capability.block.SetInParent()

    with pytest.raises(grpc.RpcError) as caught:
        node.calls.NodePublishVolume(request)

    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()
