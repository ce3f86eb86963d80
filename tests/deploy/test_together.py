"""The driver as the chart starts it: its commands and users on paths of the test; a pod of the examples."""

import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from lazyfs.demo.seaweed import free_ports
from scripts.deployment import rendered
from tests.csi.conftest import a_node, secrets  # noqa: F401 - a secret of the S3 server
from tests.csi.rig import PRIVATE, SHARED, UNPRIVILEGED, new_pod, until
from tests.deploy.objects import DEPLOY, ROOT, named, read
from tests.e2e.conftest import digests, hosted, model  # noqa: F401 - the same model

pytestmark = pytest.mark.skipif(bool(os.geteuid()), reason="mounting for others needs root")


def program(container, module, places):
    """The command of a container, with this interpreter, and with other paths for the container's."""
    found = []
    for argument in container["args"]:
        name, equals, value = argument.partition("=")
        for theirs, own in places.items():
            value = (
                value.replace(theirs, str(own), 1)
                if value.startswith((theirs, f"unix://{theirs}"))
                else value
            )
        found.append(f"{name}{equals}{value}")
    return [sys.executable, "-m", module, *found]


def shown_to_all(place):
    """A script by which everybody may enter Python's directories and this checkout, in a mount namespace."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    above = {parent for path in needed for parent in path.parents}
    closed = {parent for parent in above if not parent.stat().st_mode & 1}
    script, later = "set -e\n", ""
    for number, path in enumerate(path for path in needed if closed & set(path.parents)):
        script += f"mkdir -p {place}/{number}\nmount --bind {path} {place}/{number}\n"
        later += f"mkdir -p {path}\nmount --bind {place}/{number} {path}\n"
    tops = [path for path in closed if not closed & set(path.parents)]
    return script + "".join(f"mount -t tmpfs -o mode=755 none {top}\n" for top in tops) + later


@pytest.fixture
def chart():
    """A node with both halves, started as the chart says; and the port of the mounter's metrics."""
    (port,) = free_ports(1)
    with a_node() as node:
        node.root.chmod(0o755)
        values = {
            "kubeletDir": str(node.kubelet),
            "metrics": {"port": port},
            "mounter": {"allowSources": ["loopback"]},  # the S3 server is there
        }
        objects = [found for file in rendered(values).values() for found in file]
        plugin, mounter = (
            named(objects, "DaemonSet", name)["spec"]["template"]["spec"]
            for name in ("lazyfs-node", "lazyfs-mounter")
        )
        places = {
            "/csi": node.plugin_dir, "/run/lazyfs": node.plugin_dir / "mounter", "/cache": node.cache,
            "$(NODE_NAME)": "node-1",
        }  # fmt: skip
        for directory in (node.plugin_dir / "mounter", node.cache):
            directory.mkdir()  # as the kubelet makes a hostPath: it is root's
        (own,) = mounter["initContainers"]
        arguments = [str(places.get(argument, argument)) for argument in own["args"]]
        subprocess.run([*own["command"], *arguments], check=True)
        user = mounter["securityContext"]
        as_user = [
            *UNPRIVILEGED,
            f"--reuid={user['runAsUser']}",
            f"--regid={user['runAsGroup']}",
            "--clear-groups",
        ]
        node.plugin.command = [*SHARED, *program(plugin["containers"][0], "lazyfs_csi", places)]
        node.mounter.command = [
            *PRIVATE, "sh", "-c", f'{shown_to_all(node.root / "shown")}exec "$@"', "sh",
            *as_user, *program(mounter["containers"][0], "lazyfs_csi.mounter", places),
        ]  # fmt: skip
        node.mounter.environment |= {one["name"]: one["value"] for one in mounter["containers"][0]["env"]}
        yield node.start(), port


def volume_of_the_example():
    pod = named(read(DEPLOY / "examples" / "inline.yaml"), "Deployment", "llama")["spec"]["template"]
    return next(volume["csi"] for volume in pod["spec"]["volumes"] if volume["name"] == "model")


def metrics(port):
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return reply.read().decode()
    return ""


def test_a_pod_of_the_examples_reads_its_model_by_the_chart(chart, hosted, secrets, model):  # noqa: F811
    node, port = chart
    pod = new_pod()
    attributes = volume_of_the_example()["volumeAttributes"] | {"source": hosted.address}
    example = named(read(DEPLOY / "examples" / "inline.yaml"), "Secret", "s3")["stringData"]

    target = node.publish(pod, attributes, {name: secrets[name] for name in example})

    assert (model / "config.json").read_bytes() == (target / "config.json").read_bytes()
    (worker,) = node.workers()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
    assert (["65534"] * 4, 0) == (status["Uid"].split(), int(status["CapEff"], 16))
    assert f'lazyfs_model_bytes{{source="{hosted.address}"' in until(lambda: metrics(port))
    assert 65534 == next(path for path in node.cache.iterdir()).stat().st_uid
    node.unpublish(pod)
    assert ([], []) == node.mounts()
