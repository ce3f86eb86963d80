"""The process that serves a mount dies, hangs, is replaced; readers wait a moment and get the right bytes."""

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lazyfs.fuse.mountinfo import mounted_at
from tests.e2e.mounting import alive, lazyfs, mounted

SHARDS = tuple(f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3))
WITHOUT_RESEND = "import lazyfs.fuse.wire as wire; wire.offers_resend = lambda _: False\n"
MAIN = "from lazyfs.__main__ import main; main()"


@pytest.fixture
def slow(aws, monkeypatch):
    """A way to the S3 server on which the model takes four seconds."""
    from lazyfs.demo.link import Link

    link = Link(("127.0.0.1", aws.port), rate_bytes_per_s=11_000_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{link.port}")
    yield link
    link.close()


READ = """
import hashlib, mmap, os, sys
path, how = sys.argv[1:]
fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if how == "direct" else 0))
size, digest = os.fstat(fd).st_size, hashlib.sha256()
if how == "mmap":
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapped:
        for start in range(0, size, 65536):
            digest.update(mapped[start:start + 65536])
else:
    into, done = mmap.mmap(-1, 1 << 20), 0
    while got := os.preadv(fd, [into], done):
        digest.update(memoryview(into)[:got])
        done += got
print(digest.hexdigest())
"""


def reading(path, how):
    command = [sys.executable, "-c", READ, str(path), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def readers_of(mnt, kinds=("mmap", "pread", "direct")):
    return [(name, reading(mnt / name, how)) for name in SHARDS for how in kinds]


def check(readers, digests):
    for name, reader in readers:
        out, err = reader.communicate(timeout=60)
        assert (digests[name], "") == (out.strip(), err)


def killed_again_and_again(mount, count, pause_s, number=signal.SIGKILL):
    for _ in range(count):
        time.sleep(pause_s)
        worker = mount.worker
        os.kill(worker, number)
        replaced_within(mount, worker, 5.0)


def replaced_within(mount, worker, seconds):
    """Wait until another worker has come into being."""
    deadline = time.monotonic() + seconds
    while worker in (children := mount.children()) or not children:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_readers_of_every_kind_get_the_right_bytes_while_workers_die(
    hosted, slow, mnt, cache_dir, digests, number
):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        readers = readers_of(mnt)

        killed_again_and_again(mount, 3, 0.5, number)

        check(readers, digests)
        assert 3 == len(mount.wait_for_log("worker_died", 3))
        assert 3 == mount.status()["restarts"]


def test_on_an_older_kernel_workers_remember_for_each_other(hosted, slow, mnt, cache_dir, digests):
    program = ("-c", WITHOUT_RESEND + MAIN)
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, program=program) as mount:
        readers = readers_of(mnt)

        killed_again_and_again(mount, 5, 0.3)
        assert 0 == lazyfs("upgrade", mnt).returncode
        assert 0 == lazyfs("upgrade", mnt).returncode

        check(readers, digests)


def test_what_was_open_and_mapped_stays_so(hosted, endpoint, mnt, cache_dir, model):
    content = (model / SHARDS[0]).read_bytes()
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        fd = os.open(mnt / SHARDS[0], os.O_RDONLY)
        listing, directory = sorted(os.listdir(mnt)), os.open(mnt, os.O_RDONLY)
        state = (mnt / "config.json").stat()
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
            worker = mount.worker
            os.kill(worker, signal.SIGKILL)
            replaced_within(mount, worker, 5.0)

            assert content == mapped[:]
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert content[:1000] == os.pread(fd, 1000, 0)
            assert listing == sorted(os.listdir(directory)) == sorted(os.listdir(mnt))
            assert state == (mnt / "config.json").stat()
        os.close(fd)
        os.close(directory)


def test_a_worker_that_takes_over_needs_no_source_for_what_is_stored(hosted, slow, mnt, cache_dir, digests):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        mount.complete()
        slow.close()
        os.kill(mount.worker, signal.SIGKILL)

        check(readers_of(mnt, ("direct",)), digests)
        assert 0 == mount.status()["bytes_fetched"]


def test_an_upgrade_is_noticed_by_nobody(hosted, slow, mnt, cache_dir, digests):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        readers, workers = readers_of(mnt), [mount.worker]
        for _ in range(3):
            time.sleep(0.3)
            ran = lazyfs("upgrade", mnt)
            assert (0, "") == (ran.returncode, ran.stderr)
            workers.append(mount.status()["worker_pid"])
            assert f"(pid {workers[-1]}), before by" in ran.stdout

        check(readers, digests)
        assert 4 == len(set(workers))
        # The last one may still be ending, and its line comes after that.
        assert 3 == len(mount.wait_for_log("worker_relieved", 3))
        assert 0 == mount.status()["restarts"]
        assert [mount.worker] == mount.children(), "the others have ended"


def test_an_upgrade_that_fails_leaves_the_worker_that_serves(hosted, endpoint, mnt, cache_dir, tmp_path):
    # The next worker finds another module of that name, which ends at once.
    flag = tmp_path / "broken"
    program = (
        "import os, lazyfs.supervisor.spare as spare\nboth = {False: spare.MODULE, True: 'this'}\n"
        f"class Module:\n    def __fspath__(self):\n        return both[os.path.exists({str(flag)!r})]\n"
        "spare.MODULE = Module()\n"
    )
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, program=("-c", program + MAIN)) as mount:
        worker = mount.worker
        flag.touch()
        mount.process.send_signal(signal.SIGHUP)
        mount.wait_for_log("upgrade_failed")
        assert worker == mount.worker == mount.status()["worker_pid"]
        assert (mnt / "config.json").read_bytes()


def test_without_a_worker_readers_get_an_error_in_the_end(hosted, slow_link, mnt, cache_dir, tmp_path):
    flag = tmp_path / "broken"
    program = (
        "import os, lazyfs.supervisor.spare as spare\nboth = {False: spare.MODULE, True: 'this'}\n"
        f"class Module:\n    def __fspath__(self):\n        return both[os.path.exists({str(flag)!r})]\n"
        "spare.MODULE = Module()\n"
    )
    options = ("--cache-dir", cache_dir, "--abort-after", "2s")
    with mounted(hosted.address, mnt, *options, program=("-c", program + MAIN), clean=False) as mount:
        readers = readers_of(mnt)
        time.sleep(0.3)
        flag.touch()
        os.kill(mount.worker, signal.SIGKILL)

        for _, reader in readers:
            reader.communicate(timeout=60)
            assert reader.returncode, "an error, or SIGBUS for who had it mapped"
        mount.process.wait(60)
        assert 1 == mount.process.returncode
        assert "nobody served" in mount.log
        assert mounted_at(mnt) is None


def test_a_worker_that_is_stopped_is_replaced_within_fifteen_seconds(hosted, slow, mnt, cache_dir, digests):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:
        readers, worker = readers_of(mnt), mount.worker
        os.kill(worker, signal.SIGSTOP)

        replaced_within(mount, worker, 15.0)

        check(readers, digests)
        mount.wait_for_log("worker_killed")


def test_who_holds_it_dies_and_readers_get_an_error_at_once(hosted, slow_link, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, clean=False) as mount:
        readers, worker = readers_of(mnt), mount.worker
        time.sleep(0.5)
        mount.process.kill()
        mount.process.wait()

        for _, reader in readers:
            reader.communicate(timeout=60)
            assert reader.returncode
        assert not alive(worker), "it dies with who held it"
        assert 0 == lazyfs("unmount", mnt).returncode
        assert mounted_at(mnt) is None


def test_no_process_and_no_descriptor_is_left_behind(hosted, endpoint, mnt, cache_dir):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:

        def held():
            return len(os.listdir(f"/proc/{mount.process.pid}/fd"))

        before = held()
        killed_again_and_again(mount, 3, 0.1)
        assert 0 == lazyfs("upgrade", mnt).returncode
        deadline = time.monotonic() + 60
        while (before, 1) != (held(), len(mount.children())):
            assert time.monotonic() < deadline, (before, held(), mount.children())
            time.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_worker_has_no_capabilities_and_the_one_that_holds_the_mount_is_small(
    hosted, endpoint, mnt, cache_dir
):
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir) as mount:

        def state(pid):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            return dict(line.split(":", 1) for line in lines)

        for thread in os.listdir(f"/proc/{mount.worker}/task"):
            found = state(f"{mount.worker}/task/{thread}")
            assert (0, 0) == (int(found["CapEff"], 16), int(found["CapBnd"], 16))
            assert "1" == found["NoNewPrivs"].strip()
            usual = os.getpriority(os.PRIO_PROCESS, 0)
            assert usual == os.getpriority(os.PRIO_PROCESS, int(thread)), "it only begins in a hurry"
        assert int(state(mount.process.pid)["VmRSS"].split()[0]) < 40_000
        maps = Path(f"/proc/{mount.process.pid}/maps").read_text()
        assert "pyfuse3" not in maps


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_serves_and_takes_over(hosted, endpoint, mnt, tmp_path, digests):
    # pytest's directories are for one user only, and so are the cache's parents.
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        options = ("--cache-dir", f"{open_to_all}/cache", "--user", "12345:54321")
        with mounted(hosted.address, mnt, *options) as mount:
            for _ in range(2):
                check(readers_of(mnt, ("direct",)), digests)
                lines = Path(f"/proc/{mount.worker}/status").read_text().splitlines()
                ids = {line.split()[0]: line.split()[1:] for line in lines if line[:4] in {"Uid:", "Gid:"}}
                assert {"Uid:": ["12345"] * 4, "Gid:": ["54321"] * 4} == ids
                assert (0, 0) == ((mnt / "config.json").stat().st_uid, (mnt / "config.json").stat().st_gid)
                worker = mount.worker
                os.kill(worker, signal.SIGKILL)
                replaced_within(mount, worker, 5.0)
            mount.complete()
            assert 12345 == (Path(open_to_all) / "cache").stat().st_uid


def test_metrics_and_health_are_there_again_at_once(hosted, endpoint, mnt, cache_dir):
    import urllib.request

    from lazyfs.demo.seaweed import free_ports

    (port,) = free_ports(1)

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.read().decode()

    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, "--http", f"127.0.0.1:{port}") as mount:
        assert "lazyfs_worker_restarts_total 0.0" in get("/metrics")
        os.kill(mount.worker, signal.SIGKILL)
        # Nobody listens now; whoever asks is heard by the next one.
        assert "lazyfs_worker_restarts_total 1.0" in get("/metrics")
        assert "ok\n" == get("/healthz")


def test_a_system_that_refuses_a_process_for_a_while_costs_no_mount(
    hosted, endpoint, mnt, cache_dir, tmp_path
):
    flag = tmp_path / "refused"
    program = (
        "import os, subprocess, lazyfs.supervisor.spare as spare\n"
        "class Refusing:\n    DEVNULL = subprocess.DEVNULL\n    @staticmethod\n"
        "    def Popen(*args, **options):\n"
        f"        if os.path.exists({str(flag)!r}): raise BlockingIOError(11, 'none left')\n"
        "        return subprocess.Popen(*args, **options)\n"
        "spare.subprocess = Refusing\n"
    )
    with mounted(hosted.address, mnt, "--cache-dir", cache_dir, program=("-c", program + MAIN)) as mount:
        flag.touch()
        mount.process.send_signal(signal.SIGHUP)
        mount.wait_for_log("worker_not_started")
        assert (mnt / "config.json").read_bytes(), "the one that serves goes on"

        os.kill(mount.worker, signal.SIGKILL)
        reader = reading(mnt / SHARDS[0], "pread")
        mount.wait_for_log("worker_not_started", 2)
        flag.unlink()
        assert 0 == reader.wait(60)
        reader.communicate()
