"""A mount laid out as a cache of the Hub: unmodified clients find models by name, offline."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.mounting import inherited, lazyfs, mounted

HF = str(Path(sys.executable).with_name("hf"))
MAIN = "from lazyfs.__main__ import main; main()"
CLIENT = """
import hashlib, json, sys
from pathlib import Path
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
name, revision, *files = sys.argv[1:]
known = {"revision": revision} if revision else {}
snapshot = Path(snapshot_download(name, local_files_only=True, **known))
scan = scan_cache_dir()
print(json.dumps({
    "snapshot": snapshot.name,
    "tried": {file: try_to_load_from_cache(name, file, **known) for file in files},
    "listed": {str(path.relative_to(snapshot)): hashlib.sha256(path.read_bytes()).hexdigest()
               for path in snapshot.rglob("*") if path.is_file()},
    "found": {file: hashlib.sha256(Path(hf_hub_download(name, file, **known)).read_bytes()).hexdigest()
              for file in files},
    "repositories": {repo.repo_id: [repo.nb_files, repo.size_on_disk,
                                    sorted(ref for one in repo.revisions for ref in one.refs)]
                     for repo in scan.repos},
    "warnings": [str(warning) for warning in scan.warnings],
}))
"""


def offline(**environment):
    """The environment of a client that may ask nobody."""
    plain = {name: value for name, value in inherited().items() if not name.startswith("HF_")}
    return plain | {"HF_HUB_OFFLINE": "1"} | {name: str(value) for name, value in environment.items()}


def client(name, revision, files, **environment):
    ran = subprocess.run(
        [sys.executable, "-c", CLIENT, name, revision, *files],
        capture_output=True, text=True, check=False, env=offline(**environment), timeout=60,
    )  # fmt: skip
    assert 0 == ran.returncode, ran.stderr
    assert "" == ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture
def other(tmp_path):
    """Another model, in a directory."""
    root = tmp_path / "other"
    root.mkdir()
    (root / "config.json").write_text('{"model_type": "other"}')
    (root / "weights.safetensors").write_bytes(b"\2" + bytes(7) + b"{}" + bytes(300_000))
    return root


@pytest.fixture
def two(hosted, endpoint, other, mnt, cache_dir):
    """A mount of two models: `org/model`, and `me/other` at v1."""
    sources = [f"org/model={hosted.address}", f"me/other@v1=file://{other}"]
    with mounted(sources, mnt, "--cache-dir", cache_dir, "--layout", "hf-cache") as mount:
        yield mount


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_the_hubs_client_finds_every_file_by_the_models_name(two, digests, variable):
    said = client("org/model", "", digests, **{variable: two.path})

    assert digests == said["found"] == said["listed"]
    assert all(path and path.endswith(file) for file, path in said["tried"].items())


def test_a_model_is_found_by_branch_tag_and_commit(two, other):
    content = hashlib.sha256((other / "config.json").read_bytes()).hexdigest()
    by_tag = client("me/other", "v1", ["config.json"], HF_HOME=two.path)
    by_commit = client("me/other", by_tag["snapshot"], ["config.json"], HF_HOME=two.path)
    by_branch = client("org/model", "main", ["config.json"], HF_HOME=two.path)

    assert {"config.json": content} == by_tag["found"] == by_commit["found"]
    assert by_branch["found"]["config.json"] != content


def test_a_revision_nobody_asked_for_is_not_there(two):
    code = "from huggingface_hub import hf_hub_download; hf_hub_download('me/other', 'config.json')"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=offline(HF_HOME=two.path), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip

    assert "LocalEntryNotFoundError" in ran.stderr


def test_a_scan_finds_both_models_whole_and_nothing_to_warn_of(two, digests, model, other):
    said = client("org/model", "", [], HF_HOME=two.path)

    def size(root):
        return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())

    assert {
        "org/model": [len(digests), size(model), ["main"]],
        "me/other": [2, size(other), ["v1"]],
    } == said["repositories"]
    assert [] == said["warnings"]


@pytest.mark.parametrize("arguments", [(), ("--revisions",), ("--format", "json")])
def test_the_hubs_command_lists_them(two, arguments):
    ran = subprocess.run(
        [HF, "cache", "ls", *arguments], env=offline(HF_HOME=two.path), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip

    assert 0 == ran.returncode, ran.stderr
    assert "org/model" in ran.stdout
    assert "me/other" in ran.stdout


def test_the_link_to_the_top_is_followed_and_not_listed(two):
    assert ["models--me--other", "models--org--model"] == sorted(os.listdir(two.path))
    assert Path() == (two.path / "hub").readlink()
    assert (two.path / "hub" / "hub" / "models--me--other" / "refs" / "v1").is_file()
    with pytest.raises(OSError, match="Invalid argument"):
        (two.path / "models--me--other" / "refs" / "v1").readlink()
    with pytest.raises(NotADirectoryError):
        os.listdir(two.path / "models--me--other" / "refs" / "v1")


def test_a_file_and_its_blob_are_one(two):
    top = two.path / "models--org--model"
    (snapshot,) = (top / "snapshots").iterdir()

    files = {path.stat().st_ino: path.stat() for path in snapshot.rglob("*") if path.is_file()}

    assert set(files) == {path.stat().st_ino for path in (top / "blobs").iterdir()}
    assert {2} == {state.st_nlink for state in files.values()}
    assert snapshot.name.encode() == (top / "refs" / "main").read_bytes()


def test_nothing_can_be_written(two):
    for path in ("token", "hub/.locks", "hub/models--org--model/refs/new"):
        with pytest.raises(OSError, match="Read-only"):
            (two.path / path).write_text("x")


def everything(root):
    """Every path of a mount with what stat and reading say of it, and through the link."""
    return {
        str(path.relative_to(root)): (path.lstat(), path.is_file() and path.read_bytes())
        for path in [*root.rglob("*"), root / "hub", *(root / "hub").glob("*/refs/*")]
    }


def test_workers_that_take_over_show_the_same_tree(two, digests):
    before = everything(two.path)
    fd = os.open(two.path / "hub", os.O_RDONLY | os.O_DIRECTORY)

    os.kill(two.worker, signal.SIGKILL)
    killed = everything(two.path)
    upgraded = lazyfs("upgrade", two.path)

    assert (0, "") == (upgraded.returncode, upgraded.stderr)
    assert before == killed == everything(two.path)
    assert ["models--me--other", "models--org--model"] == sorted(os.listdir(fd))
    os.close(fd)
    assert digests == client("org/model", "", digests, HF_HOME=two.path)["found"]


def test_an_older_process_that_holds_the_mount_has_a_new_worker_serve_it(
    hosted, endpoint, mnt, cache_dir, digests
):
    # It knows of one source, and of no layout.
    program = (
        "from lazyfs.supervisor.messages import Control\n"
        "send = Control.send\n"
        "def older(self, kind, fields=None, fds=()):\n"
        "    if kind == 'mount':\n"
        "        fields = dict(fields)\n"
        "        del fields['sources']\n"
        "        fields['options'] = {n: v for n, v in fields['options'].items() if n != 'layout'}\n"
        "    return send(self, kind, fields, fds)\n"
        "Control.send = older\n"
    )
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, program=("-c", program + MAIN)) as mount:
        before = [(path, path.stat().st_ino) for path in sorted(mnt.rglob("*"))]
        assert 0 == lazyfs("upgrade", mnt).returncode
        assert before == [(path, path.stat().st_ino) for path in sorted(mnt.rglob("*"))]
        assert digests == {name: hashlib.sha256((mnt / name).read_bytes()).hexdigest() for name in digests}
        assert [hosted.address] == mount.status()["sources"]


def test_status_says_all_sources(two, hosted, other):
    texts = [f"org/model={hosted.address}", f"me/other@v1=file://{other}"]

    assert (texts, " ".join(texts)) == (two.status()["sources"], two.status()["source"])
    assert f"{two.path}  {' '.join(texts)}" in lazyfs("status", two.path).stdout


def test_a_second_mount_finds_it_all_in_the_cache(two, hosted, other, tmp_path, cache_dir):
    two.complete()
    sources = [f"me/other=file://{other}", f"org/another={hosted.address}"]

    with mounted(sources, tmp_path / "again", "--cache-dir", cache_dir, "--layout", "hf-cache") as again:
        assert 0 == again.complete()["bytes_fetched"]


def test_ls_shows_what_a_mount_would(hosted, endpoint, other):
    sources = [f"org/model={hosted.address}", f"me/other@v1=file://{other}"]

    plain = lazyfs("ls", "--layout", "hf-cache", *sources)
    document = json.loads(lazyfs("ls", "--json", "--layout", "hf-cache", *sources).stdout)

    assert "models--me--other/refs/v1: " in plain.stdout
    assert {"file", "alias", "link"} == {extra["kind"] for extra in document["extras"]}
    assert " ".join(sources) == document["source"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["file:///a", "file:///b", "MNT"], 2, "several models in one mount need --layout hf-cache"),
        (["org/a=file:///a", "MNT"], 2, "leave the name out"),
        (["--layout", "hf-cache", "file://OTHER", "MNT"], 2, "write it like org/name=file://"),
        (["--layout", "hf-cache", "o/a=file://OTHER", "o/b=file:///x", "MNT"], 3, "file:///x: there is no"),
        (["--layout", "hf-cache", "o/a@../x=file://OTHER", "MNT"], 2, "refs/../x"),
        (["--layout", "tree", "file://OTHER", "MNT"], 2, "choose one of flat, hf-cache"),
        (["file:///a"], 2, "lazyfs mount --help"),
    ],
)  # fmt: skip
def test_what_cannot_be_mounted_is_refused_with_the_cure(other, mnt, cache_dir, arguments, code, said):
    mnt.mkdir()
    given = [each.replace("OTHER", str(other)).replace("MNT", str(mnt)) for each in arguments]

    ran = lazyfs("mount", "--cache-dir", cache_dir, *given)

    assert (code, True) == (ran.returncode, said in ran.stderr), ran.stderr
    assert not os.path.ismount(mnt)


def test_a_daemon_mounts_several_too(other, mnt, cache_dir, tmp_path):
    mnt.mkdir()
    sources = [f"o/a=file://{other}", f"o/b=file://{other}"]

    ran = lazyfs(
        "mount", "--daemon", "--cache-dir", cache_dir, "--log-file", tmp_path / "log",
        "--layout", "hf-cache", *sources, mnt,
    )  # fmt: skip

    assert (0, "") == (ran.returncode, ran.stderr)
    assert f"{' '.join(sources)} is ready at {mnt}" in ran.stdout
    assert ["models--o--a", "models--o--b"] == sorted(os.listdir(mnt))
    assert 0 == lazyfs("unmount", mnt).returncode
