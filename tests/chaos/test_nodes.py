"""The two processes of the CSI driver are killed and upgraded, again and again, under readers of volumes."""

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.chaos.stage import number, seed
from tests.csi.conftest import a_node, secrets  # noqa: F401 - a fixture
from tests.csi.rig import new_pod, until
from tests.e2e.conftest import digests, hosted, model  # noqa: F401 - fixtures

pytestmark = pytest.mark.chaos

KILLS = number("KILLS", 3)
READERS = 8
BETWEEN_S = 0.8
ROUNDS_S = 120
READ = """
import hashlib, mmap, os, select, sys
target, how, *digests = sys.argv[1:]
loads, shards = 0, [one.partition("=") for one in digests]
while not select.select([sys.stdin], [], [], 0)[0]:
    for name, _, wanted in shards:
        fd = os.open(os.path.join(target, name), os.O_RDONLY | (os.O_DIRECT if how == "direct" else 0))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        size, digest, into, done = os.fstat(fd).st_size, hashlib.sha256(), mmap.mmap(-1, 1 << 20), 0
        if how == "mmap":
            with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapped:
                digest.update(mapped)
        while how != "mmap" and (got := os.preadv(fd, [into], done)):
            digest.update(memoryview(into)[:got])
            done += got
        os.close(fd)
        assert digest.hexdigest() == wanted, name
    loads += 1
print(loads)
"""


def reader(target, how, wanted):
    shards = [f"{name}={digest}" for name, digest in wanted.items() if name.endswith("safetensors")]
    command = [sys.executable, "-c", READ, str(target), how, *shards]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "upgraded"])
@pytest.mark.timeout(1800)
def test_readers_do_not_notice_whichever_process_goes(hosted, secrets, digests, how):  # noqa: F811
    chance, attributes = random.Random(seed()), {"source": hosted.address, "cacheSize": "20MB"}
    with a_node() as node:
        node.start()
        pods = [new_pod() for _ in range(4)]
        targets = [node.publish(pod, attributes, secrets) for pod in pods]
        kinds = ("pread", "mmap", "direct")
        readers = [reader(targets[n % 4], kinds[n % 3], digests) for n in range(READERS)]
        for which in [node.plugin, node.mounter] * KILLS:
            time.sleep(chance.uniform(0.0, BETWEEN_S))
            met = len(node.plugin.wait_for_log("mounter_came"))
            which.end(how)
            which.start()
            node.answering()
            node.publish(chance.choice(pods), attributes, secrets)
            node.plugin.wait_for_log("mounter_came", met + 1)
            assert (1, 4) == tuple(map(len, node.mounts()))

        for one in readers:  # none of them is stuck: all end when they are told
            out, err = one.communicate("enough", timeout=ROUNDS_S)
            assert "" == err
            assert int(out) > 0
        for pod in chance.sample(pods, 4):
            node.unpublish(pod)
        assert ([], []) == node.mounts()
        until(lambda: node.workers() == [])
