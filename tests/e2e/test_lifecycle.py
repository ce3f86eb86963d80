"""Starting, ending, dying; and what others see of it."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from lazyfs.demo.seaweed import free_ports
from lazyfs.fuse.mountinfo import FILESYSTEM, mounted_at
from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import lazyfs, mounted

SHARD = "model-00001-of-00003.safetensors"


def test_the_directory_is_there_and_is_what_it_says(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        found = mounted_at(mnt)
        assert (FILESYSTEM, hosted.address) == (found.filesystem, found.source)
        assert ".lazyfs" not in os.listdir(mnt)
        status = mount.status()
        assert (hosted.address, str(mnt), mount.process.pid) == (
            status["source"],
            status["mountpoint"],
            status["pid"],
        )
        assert status["ready_after_s"] < 5
        assert [] == status["untuned"]
        assert "8192" == _sys(f"/sys/class/bdi/{found.device}/read_ahead_kb")


def test_modules_where_it_is_started_are_not_run(mnt, cache_dir, tmp_path, monkeypatch):
    """As `lazyfs mount` in a directory of somebody who has a trio.py there, or leaves one for root."""
    where = tmp_path / "project"
    where.mkdir()
    for name in ("trio", "xxhash"):
        (where / f"{name}.py").write_text("raise SystemExit(9)")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    monkeypatch.chdir(where)

    with mounted(f"file://{model}", mnt, "--cache-dir", cache_dir):
        assert "{}" == (mnt / "config.json").read_text()


def _sys(path):
    with open(path) as file:  # noqa: PTH123
        return file.read().strip()


def waiting_reader(path, flags=0):
    """A process that reads what is not there yet; it prints how that ended."""
    script = (
        f"import os, sys, mmap\nfd = os.open({str(path)!r}, os.O_RDONLY | {flags})\n"
        "print('reading', flush=True)\n"
        "try:\n    os.preadv(fd, [mmap.mmap(-1, 1 << 20)], 8 << 20)\n    print('read')\n"
        "except OSError as error:\n    print(error.errno)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert "reading\n" == process.stdout.readline()
    time.sleep(0.3)
    assert process.poll() is None
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_though_readers_wait(hosted, slow_link, mnt, cache_dir, number):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        readers = [waiting_reader(mnt / SHARD), waiting_reader(mnt / SHARD, os.O_DIRECT)]

        mount.end(number)

        assert 0 == mount.process.returncode
        assert mounted_at(mnt) is None
        for reader in readers:
            out, _ = reader.communicate(timeout=60)
            assert int(out) in {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO}
        assert "Traceback" not in mount.log


@pytest.mark.parametrize("flags", [0, os.O_DIRECT])
def test_a_reader_that_is_killed_while_it_waits_dies_at_once(hosted, slow_link, mnt, cache_dir, flags):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir):
        reader = waiting_reader(mnt / SHARD, flags)
        reader.kill()
        reader.wait(60)
        reader.stdout.close()


def test_a_signal_that_does_not_kill_does_not_end_a_read(hosted, aws, monkeypatch, mnt, cache_dir):
    from lazyfs.demo.link import Link

    link = Link(("127.0.0.1", aws.port), rate_bytes_per_s=8_000_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{link.port}")
    script = (
        "import ctypes, os, signal, mmap\nsignal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "signal.siginterrupt(signal.SIGUSR1, True)\n"
        f"fd = os.open({str(mnt / SHARD)!r}, os.O_RDONLY | os.O_DIRECT)\n"
        "into = mmap.mmap(-1, 1 << 20)\n"
        "print('reading', flush=True)\n"
        # Not os.preadv: Python itself goes on after EINTR.
        "into = ctypes.byref(ctypes.c_char.from_buffer(into))\n"
        "print(ctypes.CDLL(None).pread(fd, into, 1 << 20, 8 << 20))\n"
    )
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        mount.wait_for(lambda status: status["oldest_wait_s"] > 0)
        for _ in range(3):
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.05)
        assert process.poll() is None
        assert str(1 << 20) == process.communicate(timeout=60)[0].strip()
    link.close()


def test_unmount_ends_the_process_and_refuses_what_is_in_use(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        held = os.open(mnt / "config.json", os.O_RDONLY)
        refused = lazyfs("unmount", mnt)
        assert 6 == refused.returncode
        assert "in use" in refused.stderr
        assert "--force" in refused.stderr
        os.close(held)

        assert 0 == lazyfs("unmount", mnt).returncode
        mount.process.wait(60)
        assert 0 == mount.process.returncode
        assert mounted_at(mnt) is None


def test_unmount_by_force_takes_it_from_its_readers(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir):
        held = os.open(mnt / "config.json", os.O_RDONLY)
        assert 0 == lazyfs("unmount", "--force", mnt).returncode
        assert mounted_at(mnt) is None
        os.close(held)


def test_unmounting_what_is_not_ours_is_refused(tmp_path):
    ran = lazyfs("unmount", tmp_path)

    assert (6, 1) == (ran.returncode, ran.stderr.count("\n"))
    assert "not a mount" in ran.stderr


def test_a_dead_mount_is_told_and_cleaned_by_the_next(hosted, endpoint, mnt, cache_dir):
    options = ("--cache-dir", cache_dir)
    with mounted(hosted.address, mnt, *options, clean=False) as mount:
        mount.process.kill()
        mount.process.wait()

        said = lazyfs("status", mnt)
        assert 1 == said.returncode
        assert "DEAD" in said.stdout
        assert f"lazyfs unmount {mnt}" in said.stdout
        document = json.loads(lazyfs("status", mnt, "--json").stdout)
        assert {"state": "dead", "mountpoint": str(mnt), "source": hosted.address} == document

        with mounted(hosted.address, mnt, *options) as again:
            again.wait_for_log("stale_mount_cleaned")
            assert (mnt / "config.json").read_bytes()


def test_a_link_to_a_mountpoint_stands_for_it(hosted, endpoint, mnt, cache_dir, tmp_path):
    mnt.mkdir(exist_ok=True)
    link = tmp_path / "link"
    link.symlink_to(mnt.name)
    with mounted(hosted.address, link, "--cache-dir", cache_dir, clean=False) as mount:
        assert mounted_at(mnt) is not None
        assert 0 == lazyfs("status", link).returncode
        mount.process.kill()
        mount.process.wait()
        assert 1 == lazyfs("status", link).returncode
        assert 0 == lazyfs("unmount", link).returncode
        assert mounted_at(mnt) is None


def test_a_dead_mount_is_unmounted_without_force(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, clean=False) as mount:
        mount.process.kill()
        mount.process.wait()

        assert 0 == lazyfs("unmount", mnt).returncode
        assert mounted_at(mnt) is None
        assert [] == os.listdir(mnt)


def test_a_mount_that_hangs_is_told(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        stopped = [mount.process.pid, mount.status()["worker_pid"]]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            said = lazyfs("status", mnt)
            assert (1, True) == (said.returncode, "HANGS" in said.stdout)
            refused = lazyfs("mount", hosted.address, mnt, "--cache-dir", cache_dir)
            assert (6, True) == (refused.returncode, "does not answer" in refused.stderr)
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
        assert "alive" == json.loads(lazyfs("status", mnt, "--json").stdout)["state"]


def test_status_tells_people_and_programs(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        mount.complete()
        people, one, all_ = lazyfs("status"), lazyfs("status", mnt, "--json"), lazyfs("status", "--json")

        assert 0 == people.returncode
        assert f"{mnt}  {hosted.address}" in people.stdout
        assert "complete: " in people.stdout
        assert "(100 %)" in people.stdout
        assert "complete" == json.loads(one.stdout)["phase"]
        assert str(mnt) in {document["mountpoint"] for document in json.loads(all_.stdout)}
    assert 6 == lazyfs("status", mnt).returncode


def test_watch_goes_on_until_it_is_interrupted(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir):
        process = subprocess.Popen(
            [sys.executable, "-m", "lazyfs", "status", str(mnt), "--watch", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "{\n" == process.stdout.readline()
        for _ in range(2):
            while process.stdout.readline() != "}\n":
                pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert 0 == process.returncode


def test_a_daemon_returns_when_ready_and_is_ended_by_unmount(hosted, endpoint, mnt, cache_dir, tmp_path):
    mnt.mkdir()
    log = tmp_path / "daemon.log"
    ran = lazyfs("mount", hosted.address, mnt, "--cache-dir", cache_dir, "--daemon", "--log-file", log)
    try:
        assert (0, "") == (ran.returncode, ran.stderr)
        assert f"ready at {mnt}" in ran.stdout
        status = json.loads((mnt / ".lazyfs" / "status.json").read_text())
        assert (mnt / "config.json").read_bytes()
    finally:
        assert 0 == lazyfs("unmount", mnt).returncode
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{status['pid']}"):  # noqa: PTH110
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert " ready " in log.read_text()


def test_a_daemon_that_cannot_start_says_why(endpoint, mnt, cache_dir, tmp_path):
    mnt.mkdir()
    ran = lazyfs(
        "mount",
        "s3://no-such-bucket",
        mnt,
        "--cache-dir",
        cache_dir,
        "--daemon",
        "--log-file",
        tmp_path / "l",
    )

    assert (3, "lazyfs: there is no bucket no-such-bucket; check its name and --endpoint-url\n") == (
        ran.returncode, ran.stderr,
    )  # fmt: skip
    assert mounted_at(mnt) is None


def test_http_tells_metrics_status_and_health(hosted, endpoint, mnt, cache_dir):
    (port,) = free_ports(1)

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.read().decode()

    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, "--http", f"127.0.0.1:{port}") as mount:
        mount.complete()
        assert "ok\n" == get("/healthz") == get("/readyz")
        assert "complete" == json.loads(get("/status"))["phase"]
        needed = mount.status()["bytes_needed"]
        values = dict(line.rsplit(" ", 1) for line in get("/metrics").splitlines() if line[0] != "#")
        assert needed == float(values["lazyfs_local_bytes"])
        assert 1.0 == float(values["lazyfs_read_amplification_ratio"])


def test_an_object_replaced_while_mounted_is_stale_and_never_mixed(
    bucket, endpoint, mnt, cache_dir, pattern_bytes
):
    old, new = pattern_bytes(5 * BLOCK, 1), pattern_bytes(5 * BLOCK, 2)
    bucket.put("weights.bin", old)
    bucket.put("other.bin", old)
    options = ("--cache-dir", cache_dir, "--block-size", BLOCK, "--policy", "demand")
    with mounted(bucket.address, mnt, *options) as mount:
        with (mnt / "weights.bin").open("rb", buffering=0) as file:
            assert old[:4096] == file.read(4096)
        bucket.put("weights.bin", new)
        fd = os.open(mnt / "weights.bin", os.O_RDONLY | os.O_DIRECT)
        with pytest.raises(OSError) as raised:
            os.pread(fd, 4096, 4 * BLOCK)
        assert errno.ESTALE == raised.value.errno
        os.close(fd)
        with (mnt / "weights.bin").open("rb", buffering=0) as file:
            assert old[:4096] == file.read(4096)
        assert old == (mnt / "other.bin").read_bytes()
        said = mount.wait_for_log("fetch_failed")[0]
        assert "kind=blob_changed" in said
        assert "mount or pull again" in said
    with mounted(bucket.address, mnt, *options):
        assert new == (mnt / "weights.bin").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda p: (p / "new").write_text(""),
        lambda p: (p / "config.json").open("r+b"),
        lambda p: (p / "config.json").unlink(),
        lambda p: (p / "config.json").rename(p / "other"),
        lambda p: (p / "config.json").chmod(0o777),
        lambda p: os.truncate(p / "config.json", 0),
        lambda p: os.utime(p / "config.json"),
        lambda p: (p / "dir").mkdir(),
        lambda p: (p / "sub").rmdir(),
        lambda p: (p / "link").symlink_to("config.json"),
        lambda p: os.link(p / "config.json", p / "link"),
        lambda p: os.mkfifo(p / "pipe"),
        lambda p: os.setxattr(p / "config.json", "user.x", b"1"),
    ],
)
def test_nothing_can_be_changed(readonly, change):
    with pytest.raises(OSError) as raised:
        change(readonly)

    assert errno.EROFS == raised.value.errno


@pytest.fixture(scope="module")
def readonly(seaweed, hosted, tmp_path_factory):
    root = tmp_path_factory.mktemp("readonly")
    environment = {**os.environ, **seaweed.environment, "AWS_ENDPOINT_URL": seaweed.endpoint_url}
    with mounted(hosted.address, root / "mnt", "--cache-dir", root / "cache", env=environment) as mount:
        yield mount.path


def test_what_programs_ask_of_a_file_system(readonly, model, digests):
    state = os.statvfs(readonly)
    assert state.f_blocks * state.f_frsize >= sum((model / name).stat().st_size for name in digests)
    assert (0, 0, 255) == (state.f_bfree, state.f_favail, state.f_namemax)
    found = (readonly / "config.json").stat()
    assert (0o100444, 1) == (found.st_mode, found.st_nlink)
    assert 0o40555 == readonly.stat().st_mode
    assert os.access(readonly / "config.json", os.R_OK)
    assert not os.access(readonly / "config.json", os.W_OK)
    with pytest.raises(OSError) as raised:
        os.listxattr(readonly / "config.json")
    assert errno.ENOTSUP == raised.value.errno
    with pytest.raises(FileNotFoundError):
        (readonly / "no such file").stat()
    with pytest.raises(NotADirectoryError):
        os.listdir(readonly / "config.json")
    with pytest.raises(IsADirectoryError):
        (readonly / "sub").read_bytes()
    fd = os.open(readonly / "config.json", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_more_signals_change_nothing(hosted, slow_link, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, clean=False) as mount:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            mount.process.send_signal(number)
        mount.process.wait(60)

        assert 0 == mount.process.returncode
        assert mounted_at(mnt) is None
        assert "Traceback" not in mount.log


def test_a_new_mount_survives_the_end_of_an_old_one_at_its_place(model, mnt, cache_dir):
    options = ("--cache-dir", cache_dir)
    with mounted(f"file://{model}", mnt, *options, clean=False) as old:
        held = (mnt / "config.json").open("rb")
        assert 0 == lazyfs("unmount", "--force", mnt).returncode
        with mounted(f"file://{model}", mnt, *options) as new:
            held.close()
            old.process.send_signal(signal.SIGTERM)
            old.process.wait(60)
            assert new.process.poll() is None
            assert (model / "config.json").read_bytes() == (mnt / "config.json").read_bytes()


def test_a_terminal_shows_progress_and_may_be_stopped(hosted, slow_link, mnt, cache_dir):
    mnt.mkdir(exist_ok=True)
    ours, theirs = os.openpty()
    command = [
        sys.executable,
        "-m",
        "lazyfs",
        "mount",
        hosted.address,
        str(mnt),
        "--cache-dir",
        str(cache_dir),
    ]
    process = subprocess.Popen(command, stdin=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = b""
    while b"loading" not in said or b"/s" not in said:
        said += os.read(ours, 4096)
    assert f"{hosted.address} is ready at {mnt}" in " ".join(said.decode().split())
    # From here on nobody reads what it draws.
    assert (mnt / "config.json").read_bytes()
    process.send_signal(signal.SIGINT)
    process.wait(60)
    os.close(ours)

    assert mounted_at(mnt) is None


def test_a_terminal_that_goes_away_ends_its_mount(model, mnt, cache_dir):
    mnt.mkdir()
    pid, ours = os.forkpty()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "lazyfs", "mount", f"file://{model}", str(mnt),
                                  "--cache-dir", str(cache_dir)])  # fmt: skip
    said = b""
    while b"is ready at" not in said:
        said += os.read(ours, 4096)
    os.close(ours)

    deadline = time.monotonic() + 60
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert mounted_at(mnt) is None


@pytest.mark.parametrize("allowed", [False, True])
def test_only_who_mounted_may_look_unless_others_are_allowed(model, cache_dir, allowed):
    if os.geteuid():
        pytest.skip("being somebody else needs root")
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        path = Path(open_to_all) / "mnt"
        options = ["--allow-other"] if allowed else []
        with mounted(f"file://{model}", path, "--cache-dir", cache_dir, *options):
            state = (path / "config.json").stat()
            command = ["setpriv", "--reuid=65534", "--clear-groups", "cat", str(path / "config.json")]
            ran = subprocess.run(command, capture_output=True, check=False)

    assert (0, 0, stat.S_IFREG | 0o444) == (state.st_uid, state.st_gid, state.st_mode)
    assert (model / "config.json").read_bytes() * allowed == ran.stdout
    assert allowed or b"Permission denied" in ran.stderr


def test_times_are_those_of_the_objects(readonly, hosted, seaweed):
    modified = hosted.client.head_object(Bucket=hosted.name, Key=hosted.key("config.json"))["LastModified"]

    assert modified.timestamp() == (readonly / "config.json").stat().st_mtime
