"""Models of a Hub, mounted as a cache of it: the same as what the Hub's own client keeps after a download."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.mounting import inherited, lazyfs, mounted
from tests.hub import Hub

HF = str(Path(sys.executable).with_name("hf"))
FILES = {
    "config.json": b'{"model_type": "test"}',
    "model-00001-of-00001.safetensors": b"\2" + bytes(7) + b"{}" + bytes(range(256)) * 4000,
    "onnx/model.onnx": b"onnx" * 100_000,
    "onnx/readme.md": b"",
}


@pytest.fixture
def hub():
    """Two versions of a model, of which `v1` is a tag, and a data set."""
    with Hub() as found:
        model = found.repository("org/model")
        model.refs["v1"] = model.commit(FILES)
        model.commit({"config.json": b'{"model_type": "newer"}'})
        model.commit({"pr.txt": b"1"}, "refs/pr/1")
        found.repository("org/set", "datasets").commit({"data/train.parquet": b"rows" * 1000})
        yield found


@pytest.fixture
def environment(hub):
    foreign = ("HF_", "AWS_")
    plain = {name: value for name, value in inherited().items() if not name.startswith(foreign)}
    return plain | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


def showing(mnt, cache_dir, environment, *sources):
    return mounted(sources, mnt, "--cache-dir", cache_dir, "--layout", "hf-cache", env=environment)


def hf(environment, home, *arguments):
    return subprocess.run(
        [HF, *arguments], env=environment | {"HF_HOME": str(home)}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def kept(hub):
    """What a cache holds of refs, snapshots and blobs, by path."""
    folders = [path for path in hub.glob("*s--*/*") if path.name in {"refs", "snapshots", "blobs"}]
    return {
        str(path.relative_to(hub)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("source", "download"),
    [
        ("hf://org/model", ["org/model"]),
        ("hf://org/model@v1", ["org/model", "--revision", "v1"]),
        ("hf://org/model@refs/pr/1", ["org/model", "--revision", "refs/pr/1"]),
        ("hf://org/model/onnx", ["org/model", "--include", "onnx/*"]),
        ("hf://org/model/onnx/model.onnx", ["org/model", "onnx/model.onnx"]),
        ("hf://datasets/org/set", ["org/set", "--repo-type", "dataset"]),
    ],
)
def test_a_mount_holds_what_a_download_keeps(source, download, environment, mnt, cache_dir, tmp_path):
    home = tmp_path / "home"
    downloaded = hf(environment, home, "download", *download)
    assert 0 == downloaded.returncode, downloaded.stderr

    with showing(mnt, cache_dir, environment, source):
        assert kept(home / "hub") == kept(mnt / "hub")


def test_a_commit_is_kept_without_a_ref(hub, environment, mnt, cache_dir):
    commit = hub.repositories[0].refs["v1"]

    with showing(mnt, cache_dir, environment, f"hf://org/model@{commit}"):
        assert {"blobs", "snapshots"} == set(os.listdir(mnt / "models--org--model"))
        found = mnt / "models--org--model" / "snapshots" / commit / "config.json"
        assert FILES["config.json"] == found.read_bytes()


def test_two_revisions_of_a_model_are_two_snapshots_and_what_they_share_is_fetched_once(
    hub, environment, mnt, cache_dir
):
    with showing(mnt, cache_dir, environment, "hf://org/model@v1", "hf://org/model") as mount:
        status = mount.complete()
        top = mnt / "models--org--model"
        first, second = (top / "snapshots" / (top / "refs" / name).read_text() for name in ("v1", "main"))
        shard = "model-00001-of-00001.safetensors"
        assert (first / shard).samefile(second / shard)
        assert FILES["config.json"] == (first / "config.json").read_bytes()
        assert b'{"model_type": "newer"}' == (second / "config.json").read_bytes()
        newer = len(b'{"model_type": "newer"}')
        assert sum(map(len, FILES.values())) + newer == status["bytes_needed"] == status["bytes_fetched"]


@pytest.mark.parametrize("arguments", [(), ("--revision", "v1")], ids=["main", "v1"])
def test_the_hubs_command_verifies_it(environment, mnt, cache_dir, arguments):
    with showing(mnt, cache_dir, environment, "hf://org/model", "hf://org/model@v1"):
        ran = hf(environment, mnt, "cache", "verify", "org/model", *arguments, "--fail-on-missing-files")

        assert 0 == ran.returncode, ran.stderr
        assert "All checksums match" in ran.stdout


def test_a_client_that_may_ask_the_hub_downloads_nothing_either(hub, environment, mnt, cache_dir):
    with showing(mnt, cache_dir, environment, "hf://org/model") as mount:
        mount.complete()
        hub.forget()
        ran = hf(environment, mnt, "download", "org/model")

        assert 0 == ran.returncode, ran.stderr
        assert [] == hub.of("storage")


def test_a_worker_that_takes_over_asks_the_hub_for_no_listing(hub, environment, mnt, cache_dir):
    with showing(mnt, cache_dir, environment, "hf://org/model", "hf://datasets/org/set") as mount:
        before = kept(mnt)
        mount.complete()
        hub.repositories[0].commit({"config.json": b"changed"})
        hub.forget()

        assert 0 == lazyfs("upgrade", mnt).returncode

        assert before == kept(mnt)
        assert ([], []) == (hub.of("info"), hub.of("tree"))


def test_a_model_of_the_hub_is_shown_by_another_name(environment, mnt, cache_dir):
    with showing(mnt, cache_dir, environment, "mine/renamed@stable=hf://org/model@v1"):
        (snapshot,) = (mnt / "models--mine--renamed" / "snapshots").iterdir()

        assert snapshot.name == (mnt / "models--mine--renamed" / "refs" / "stable").read_text()
        assert FILES["config.json"] == (snapshot / "config.json").read_bytes()


def test_one_of_several_that_is_not_there_fails_the_mount_with_its_name(environment, mnt, cache_dir):
    mnt.mkdir()

    ran = lazyfs(
        "mount", "--cache-dir", cache_dir, "--layout", "hf-cache",
        "hf://org/model", "hf://org/missing", mnt, env=environment,
    )  # fmt: skip

    assert 3 == ran.returncode, ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("lazyfs: hf://org/missing: ")
