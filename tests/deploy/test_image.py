"""The image: its root file system, made by the steps of the Dockerfile, has what the manifests run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs import __version__
from tests.deploy import image
from tests.deploy.manifests import every_pod, ours
from tests.deploy.objects import ROOT, containers_of

pytestmark = pytest.mark.slow

BASE_BYTES = 130_000_000
"""What python:3.11-slim-bookworm takes: Debian's minimal system and a Python."""
LIMIT_BYTES = 250_000_000


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    found = tmp_path_factory.mktemp("image")
    image.build(found)
    return found


def run(root, *command):
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": f"{root}/opt/bin:/usr/bin:/bin", "HOME": "/tmp"},
    )  # fmt: skip


def commands():
    """Every command our image is to run, with its arguments: of containers, probes and hooks."""
    found = set()
    for pod in every_pod():
        for container in filter(ours, containers_of(pod)):
            asked = [[*container.get("command", ["lazyfs"]), *container.get("args", [])]]
            probes = [container.get(name, {}) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
            asked += [probe["exec"]["command"] for probe in probes if "exec" in probe]
            found |= {tuple(one) for one in asked}
    (health,) = image.said("HEALTHCHECK")
    found.add(tuple(json.loads(health.partition("CMD ")[2])))
    return sorted(one for command in found for one in in_shells(command))


def in_shells(command):
    """A command, and those it has a shell run."""
    yield command
    if command[:2] == ("sh", "-c"):
        yield from (tuple(part.replace("exec ", "").split()) for part in command[2].split("&&"))


def of_debian(name):
    """Tell whether a command is of a package that every Debian has, and so every image made from one."""
    found = shutil.which(name, path="/usr/bin:/bin")
    package = subprocess.run(
        ["dpkg-query", "-S", f"*/bin/{name}"], capture_output=True, text=True, check=False
    )
    names = {line.partition(":")[0] for line in package.stdout.splitlines()}
    asked = ["dpkg-query", "-f", "${Essential}\n", "-W", *names]
    return (
        bool(found and names)
        and "yes" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    )


def test_every_command_of_the_manifests_is_in_the_image(root):
    names = {command[0] for command in commands()}

    assert {"lazyfs", "lazyfs-csi", "lazyfs-mounter", "install", "sh", "mkdir", "sleep", "grep"} == names
    assert [] == [name for name in names if not ((root / "opt/bin" / name).exists() or of_debian(name))]


def test_our_commands_know_the_options_they_are_given(root):
    for name, *arguments in commands():
        if name.startswith("lazyfs"):
            verb = [arguments[0]] if name == "lazyfs" else []
            known = run(root, name, *verb, "--help")
            assert 0 == known.returncode, known.stderr
            given = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
            assert set() == given - set(re.findall(r"--[\w-]+", known.stdout)), name


def test_the_image_is_of_this_version(root):
    assert f"lazyfs {__version__}\n" == run(root, "lazyfs", "--version").stdout
    assert f"VERSION={__version__}" in image.said("ARG")


def test_what_is_left_behind_of_botocore_is_not_missed(root):
    script = (
        "import botocore.session as s\ns = s.get_session()\n"
        "for name in ('s3', 'sts', 'sso', 'sso-oidc', 'signin'):\n    s.get_service_model(name)\n"
    )
    assert "" == run(root, str(root / "opt/bin/python"), "-c", script).stderr


def test_the_packages_exist():
    if not shutil.which("apt-cache") or not list(Path("/var/lib/apt/lists").glob("*_Packages*")):
        pytest.skip("there are no lists of packages: apt-get update")
    names = image.packages(0) + image.packages(-1)
    said = subprocess.run(["apt-cache", "policy", *names], capture_output=True, text=True, check=True).stdout

    assert {"fuse3", "libfuse3-dev"} < set(names)
    assert set(names) == set(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: \d", said, re.MULTILINE))


def test_the_python_of_the_base_is_one_that_is_tested():
    (base,) = [text for name, text in image.instructions() if name == "ARG" and text.startswith("BASE=")]

    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-bookworm", base)
    assert (3, 11) <= sys.version_info


def test_the_image_is_small(root):
    added = image.bytes_of(root / "opt")

    assert added + BASE_BYTES < LIMIT_BYTES, added


def test_what_is_copied_is_not_ignored_and_all_else_is():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {name for text in image.said("COPY", 0) for name in text.split()[:-1]}

    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}
    assert "*" in ignored


def test_it_runs_as_nobody_and_says_what_it_is():
    assert ["65534:65534"] == image.said("USER")
    (labels,) = image.said("LABEL")
    assert {"title", "description", "licenses", "version", "revision", "base.name"} == set(
        re.findall(r"org\.opencontainers\.image\.([\w.]+)=", labels)
    )
