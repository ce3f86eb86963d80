"""Everything that can go wrong at the start: one line with cause and cure, an exit code, nothing mounted."""

import os
import re
import socket
import ssl
import subprocess
import sys

import pytest
import trustme

from lazyfs.fuse.mountinfo import mounts
from tests.e2e.mounting import inherited, lazyfs, mounted
from tests.faults.server import Behaviour, FaultServer


def refused(code, words, *arguments, env=None):
    """Run a mount that must fail; check how it does."""
    before = mounts_at(arguments)
    ran = lazyfs("mount", *arguments, env=env)

    *log, line = ran.stderr.splitlines()
    assert code == ran.returncode, ran.stderr
    assert re.search(words, line), line
    assert line.startswith("lazyfs: ")
    assert "; " in line, "no cure"
    assert "Traceback" not in ran.stderr
    assert all(re.match(r"\S+Z (INFO|WARNING) ", text) for text in log)
    assert "" == ran.stdout
    assert before == mounts_at(arguments)
    return line


def mounts_at(arguments):
    return [m for m in mounts() if m.mountpoint in map(str, arguments)]


@pytest.fixture
def where(mnt, cache_dir):
    mnt.mkdir()
    return mnt, "--cache-dir", cache_dir


# -- the source --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("endpoint")
def test_no_such_bucket(where):
    refused(3, "there is no bucket no-such-bucket; check its name", "s3://no-such-bucket/x", *where)


@pytest.mark.usefixtures("endpoint")
def test_no_such_prefix(hosted, where):
    refused(3, "there is nothing at s3://tests/.*/nowhere; ", f"{hosted.address}/nowhere", *where)


@pytest.mark.usefixtures("endpoint")
def test_wrong_credentials(hosted, where, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused(4, "the credentials are wrong .*; check AWS_ACCESS_KEY_ID", hosted.address, *where)


@pytest.mark.usefixtures("endpoint")
def test_no_credentials(hosted, where, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(4, "there are no AWS credentials; .*--anonymous", hosted.address, *where)


@pytest.mark.usefixtures("aws")
def test_an_endpoint_that_refuses(where):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    refused(
        5,
        f"cannot connect to 127.0.0.1:{port}; check --endpoint-url",
        "s3://b/x",
        *where,
        "--endpoint-url",
        url,
    )


@pytest.mark.usefixtures("aws")
def test_a_name_dns_does_not_know(where):
    refused(
        5, "cannot resolve nowhere.invalid; ", "s3://b/x", *where, "--endpoint-url", "http://nowhere.invalid"
    )


@pytest.mark.usefixtures("aws")
def test_a_certificate_nobody_vouches_for(where):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = FaultServer(tls=context)
    url = f"https://localhost:{server.port}"
    refused(
        5, "TLS with localhost:.* failed .*; set AWS_CA_BUNDLE", "s3://b/x", *where, "--endpoint-url", url
    )
    server.close()


def test_an_unknown_scheme(where):
    words = "unknown scheme gopher://; a source begins with one of s3://, hf://"
    refused(2, words, "gopher://x/y", *where)


def test_a_directory_that_is_not_there(where):
    refused(3, "there is no /nowhere/model; check the path", "file:///nowhere/model", *where)


def test_patterns_that_leave_nothing(model, where):
    refused(3, "nothing at .* can be mounted; check --include", f"file://{model}", *where, "--exclude", "*")


# -- the mountpoint ----------------------------------------------------------------------------------------


def test_a_mountpoint_that_is_missing(model, tmp_path):
    path = tmp_path / "missing"
    refused(6, f"mountpoint {path} does not exist; make it: mkdir -p {path}", f"file://{model}", path)


def test_a_mountpoint_that_is_not_empty(model, mnt):
    mnt.mkdir()
    (mnt / "file").write_text("")
    refused(6, "is not empty; choose an empty directory", f"file://{model}", mnt)


def test_a_mountpoint_that_is_a_file(model, mnt):
    mnt.write_text("")
    refused(6, "is not a directory; choose", f"file://{model}", mnt)


def test_a_mountpoint_where_another_lazyfs_is_mounting(model, where):
    import fcntl

    fd = os.open(where[0], os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    refused(6, "is busy: another lazyfs is mounting there; wait", f"file://{model}", *where)
    os.close(fd)


def test_a_mountpoint_that_is_lazyfs_already(model, mnt, cache_dir):
    with mounted(f"file://{model}", mnt, "--cache-dir", cache_dir):
        refused(
            6, f"already a lazyfs mount of file://{model}; .*lazyfs unmount {mnt}", f"file://{model}", mnt
        )
        assert (mnt / "config.json").read_bytes()


# -- FUSE --------------------------------------------------------------------------------------------------


def in_namespace(script, *arguments):
    """Run a mount after a shell script in a mount namespace of its own."""
    command = [sys.executable, "-m", "lazyfs", "mount", *map(str, arguments)]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh", *command],
        capture_output=True, text=True, check=False, env=inherited(),
    )  # fmt: skip


def test_without_dev_fuse(model, where):
    # The namespace's /dev gets another device of that name taken away: an empty directory over it all.
    ran = in_namespace("mkdir -p /tmp/lazyfs-empty && mount -t tmpfs none /dev", f"file://{model}", *where)

    assert (7, "") == (ran.returncode, ran.stdout)
    assert "lazyfs: there is no /dev/fuse; load the module (modprobe fuse)" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_permission_to_mount(model, where):
    ran = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin",
         sys.executable, "-m", "lazyfs", "mount", f"file://{model}", *map(str, where)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (7, 1) == (
        ran.returncode,
        len([line for line in ran.stderr.splitlines() if line.startswith("lazyfs: ")]),
    )
    assert "mounting is not permitted" in ran.stderr
    assert "CAP_SYS_ADMIN" in ran.stderr
    assert "Traceback" not in ran.stderr


# -- the cache ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_cache_directory_that_is_not_writable(model, mnt, small_disk):
    mnt.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(
        8,
        "Read-only file system; .*--cache-size 0",
        f"file://{model}",
        mnt,
        "--cache-dir",
        small_disk / "cache",
    )


def test_a_cache_directory_that_is_full(model, mnt, small_disk):
    mnt.mkdir()
    subprocess.run(["dd", "if=/dev/zero", f"of={small_disk}/filler"], check=False, capture_output=True)
    refused(
        8,
        r"is full \(0 bytes free\); free some space",
        f"file://{model}",
        mnt,
        "--cache-dir",
        small_disk / "cache",
    )


def test_a_cache_directory_made_by_a_newer_version(model, mnt, cache_dir):
    mnt.mkdir()
    (cache_dir / "v9").mkdir(parents=True)
    refused(8, r"made by a newer lazyfs \(v9.*; upgrade", f"file://{model}", mnt, "--cache-dir", cache_dir)


def test_a_cache_directory_without_direct_io_works_and_says_what_it_costs(model, mnt, tmp_path):
    path = tmp_path / "ram"
    path.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", str(path)], check=True)
    try:
        with mounted(f"file://{model}", mnt, "--cache-dir", path / "cache") as mount:
            assert (model / "config.json").read_bytes() == (mnt / "config.json").read_bytes()
            assert "put --cache-dir on ext4 or xfs" in mount.wait_for_log("cache_without_direct_io")[0]
            mount.complete()
    finally:
        subprocess.run(["umount", str(path)], check=True)


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--block-size", "5MB"], "--block-size 5MB is not a multiple of 4KiB"),
        (["--memory", "lots"], "'lots' is not a size; write it like 512MiB"),
        (["--memory", "1MiB"], "--memory 1MiB is too little; give at least 64MiB"),
        (["--connections", "0"], "--connections 0 is not a number from 1 to 256"),
        (["--policy", "magic"], "there is no --policy magic; choose one of model, file, demand"),
        (["--read-deadline", "soon"], "'soon' is not a duration; write it like 300, 5m"),
        (["--http", "nowhere"], "--http nowhere is not an address; write it like 127.0.0.1:9400"),
        (["--endpoint-url", "minio:9000"], "--endpoint-url minio:9000 is not a URL; write it like https://"),
        (["--log-format", "xml"], "there is no --log-format xml; choose one of text, json"),
        (["--log-level", "loud"], "there is no --log-level loud; choose one of"),
        (["--addressing-style", "odd"], "there is no --addressing-style odd; choose one of path, virtual"),
    ],
)
def test_a_malformed_option(model, where, options, words):
    refused(2, re.escape(words), f"file://{model}", *where, *options)


@pytest.mark.parametrize("option", ["--cache-dir", "--log-file"])
def test_what_lazyfs_writes_must_not_lie_in_the_mountpoint(model, mnt, option):
    mnt.mkdir()

    refused(2, f"{option} .*inside lies in the mountpoint", f"file://{model}", mnt, option, mnt / "inside")

    assert [] == os.listdir(mnt)


def test_a_prefix_the_server_writes_otherwise(hosted, endpoint, where):
    bucket, _, prefix = hosted.address.removeprefix("s3://").partition("/")

    refused(3, "the server lists .*without doubled slashes|nothing at", f"s3://{bucket}//{prefix}", *where)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n<html><p>A console</p></html>",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
)
@pytest.mark.usefixtures("endpoint")
def test_an_endpoint_that_is_no_s3_server(where, reply):
    server = FaultServer()
    server.behave = lambda _asked: Behaviour(raw=reply)

    refused(
        5,
        "answer is not S3's.*check --endpoint-url",
        "s3://tests/x",
        *where,
        "--endpoint-url",
        server.url(""),
    )
    server.close()


@pytest.mark.parametrize("how", [(), ("--daemon",)])
def test_a_log_file_that_cannot_be_written(model, where, how):
    words = "log file /proc/none/x.log: No such file or directory; make it writable"

    refused(2, words, f"file://{model}", *where, "--log-file", "/proc/none/x.log", *how)


def test_an_option_in_the_environment_is_checked_like_any(model, where):
    refused(
        2, "'much' is not a size", f"file://{model}", *where, env={**inherited(), "LAZYFS_MEMORY": "much"}
    )


def test_an_option_that_does_not_exist_is_the_users_error(model, where):
    ran = lazyfs("mount", f"file://{model}", *where, "--speed", "high")

    assert 2 == ran.returncode
    assert "No such option" in ran.stderr
    assert "Traceback" not in ran.stderr


# -- commands that do not mount ----------------------------------------------------------------------------


def test_ls_and_inspect_tell_what_a_mount_would_show(hosted, endpoint, model, digests):
    import json

    ls, documents = lazyfs("ls", hosted.address), json.loads(lazyfs("ls", hosted.address, "--json").stdout)
    assert sorted(digests) == sorted(line.split()[-1] for line in ls.stdout.splitlines()[:-1])
    assert {name: (model / name).stat().st_size for name in digests} == {
        entry["name"]: entry["size_bytes"] for entry in documents["files"]
    }

    people, found = (
        lazyfs("inspect", hosted.address),
        json.loads(lazyfs("inspect", hosted.address, "--json").stdout),
    )
    assert 0 == people.returncode
    assert "billion parameters in F16" in people.stdout
    assert 3 == len(found["files"])
    assert [] == found["faults"]
    tensors = {t["name"]: t for t in found["files"]["model-00001-of-00003.safetensors"]}
    assert ("F16", [1024, 512]) == (tensors["layers.0.q"]["dtype"], tensors["layers.0.q"]["shape"])
    assert "layers.0.q" in lazyfs("inspect", hosted.address, "--tensors").stdout


def test_inspect_tells_what_is_wrong_with_a_model(tmp_path, model):
    import json
    import shutil

    broken = tmp_path / "model"
    shutil.copytree(model, broken)
    (broken / "bad.safetensors").write_bytes(b"not one")
    weight_map = {"layers.0.q": "model-00001-of-00003.safetensors", "x": "missing.safetensors",
                  "layers.9.q": "model-00001-of-00003.safetensors"}  # fmt: skip
    (broken / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    ran = lazyfs("inspect", f"file://{broken}")

    assert 1 == ran.returncode
    faults = [line for line in ran.stdout.splitlines() if line.startswith("FAULT: ")]
    assert 3 == len(faults)
    for words in ("bad.safetensors: ", "names missing.safetensors", "names 1 tensors that are not"):
        assert any(words in fault for fault in faults)


def test_inspect_of_something_without_weights(tmp_path):
    (tmp_path / "readme").write_text("x")
    ran = lazyfs("inspect", f"file://{tmp_path}")

    assert (3, 1) == (ran.returncode, ran.stderr.count("\n"))
    assert "there are no safetensors" in ran.stderr


def test_the_version_and_the_help():
    from lazyfs import __version__

    assert f"lazyfs {__version__}\n" == lazyfs("--version").stdout
    text = lazyfs("mount", "--help").stdout
    assert "LAZYFS_CACHE_DIR" in text
    assert "--read-deadline" in text
