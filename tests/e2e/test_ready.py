"""`lazyfs ready`: what probes ask."""

import os
import signal
import subprocess
import sys

import pytest

from lazyfs.commands import ready
from lazyfs.fuse.mountinfo import mounted_at
from tests.e2e.mounting import lazyfs, mounted


@pytest.fixture
def place(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return f"file://{tmp_path}/model"


def refusal(*arguments):
    """What `lazyfs ready` says when it is not: one line."""
    ran = lazyfs("ready", *arguments)
    assert (1, "", 1) == (ran.returncode, ran.stdout, ran.stderr.count("\n"))
    return ran.stderr.strip()


def test_a_mount_that_answers_is_ready_and_one_that_has_ended_is_not(place, mnt, cache_dir):
    with mounted(place, mnt, "--cache-dir", cache_dir):
        ran = lazyfs("ready", mnt)
        assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)

    assert f"lazyfs: not ready: {mnt} is not a lazyfs mount" == refusal(mnt)


def test_a_directory_that_is_missing_is_not_ready(tmp_path):
    assert f"lazyfs: not ready: {tmp_path}/none is not a lazyfs mount" == refusal(tmp_path / "none")


def test_a_mount_that_died_is_not_ready(place, mnt, cache_dir):
    with mounted(place, mnt, "--cache-dir", cache_dir, clean=False) as mount:
        mount.process.kill()
        mount.process.wait()

        assert f"lazyfs: not ready: {mnt}: the process that served it is gone" in refusal(mnt)


def test_without_a_mountpoint_every_mount_must_answer(place, tmp_path, cache_dir, monkeypatch, capsys):
    # Only those of this test: somebody else's may be dead.
    ours = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setattr(ready, "lazyfs_mounts", lambda: list(filter(None, map(mounted_at, ours))))

    assert (1, "lazyfs: not ready: nothing is mounted here\n") == (ready.show(None), capsys.readouterr().err)
    with mounted(place, ours[0], "--cache-dir", cache_dir):
        with mounted(place, ours[1], "--cache-dir", cache_dir, clean=False) as second:
            assert (0, "") == (ready.show(None), capsys.readouterr().err)
            second.process.kill()
            second.process.wait()
            assert 1 == ready.show(None)
            assert f"not ready: {ours[1]}: the process that served it is gone" in capsys.readouterr().err
        assert 0 == ready.show(None)


def test_a_mount_that_hangs_is_not_ready_and_does_not_hang_the_probe(place, mnt, cache_dir):
    with mounted(place, mnt, "--cache-dir", cache_dir) as mount:
        stopped = [mount.process.pid, mount.status()["worker_pid"]]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert f"lazyfs: not ready: {mnt}: it did not answer within 1.5 s" == refusal(mnt)
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
        assert 0 == lazyfs("ready", mnt).returncode


def test_its_help_and_what_is_malformed_are_the_command_lines(mnt):
    assert "Usage: " in lazyfs("ready", "--help").stdout
    assert 2 == lazyfs("ready", mnt, mnt).returncode


def test_a_probe_does_not_wait_for_the_command_line_to_be_imported(tmp_path):
    script = (
        "import sys\nfrom lazyfs.__main__ import main\n"
        f"sys.argv = ['lazyfs', 'ready', {str(tmp_path)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sorted(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded = set(ran.stdout.split())
    assert "lazyfs.fuse.liveness" in loaded
    assert set() == loaded & {
        "typer",
        "trio",
        "pyfuse3",
        "boto3",
        "botocore",
        "lazyfs.cli",
        "lazyfs.config",
        "json",
    }
