"""`lazyfs bench` as people run it: a page, a document, errors, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lazyfs.bench.synthetic import SOURCE
from lazyfs.fuse.mountinfo import mounts
from lazyfs.telemetry.status import bytes_text
from tests.e2e.mounting import lazyfs

QUICK = ("--budget", "16MB", "--seconds", "0.2")


def benched(cache_dir, source, *arguments, timeout=30.0):
    return lazyfs("bench", "--cache-dir", cache_dir, *QUICK, *arguments, source, timeout=timeout)


@pytest.fixture
def own_tmp(tmp_path, monkeypatch):
    """Where a bench puts what is temporary: another one may run on this machine."""
    path = tmp_path / "tmp"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def mounted_below(path):
    return [m for m in mounts() if m.source == SOURCE and m.mountpoint.startswith(str(path))]


def test_a_page_says_what_there_is_what_to_expect_and_what_to_set(model, cache_dir):
    ran = benched(cache_dir, f"file://{model}")

    assert (0, "") == (ran.returncode, ran.stderr)
    labels = [line.split()[0] for line in ran.stdout.splitlines() if line[:1].strip()]
    assert ["node", "model", "request", "link", "disk", "FUSE", "CPU", "A", "A"] == labels[:9]
    size = bytes_text(sum(file.stat().st_size for file in model.rglob("*") if file.is_file()))
    assert f"model    file://{model}" in ran.stdout
    assert f"{size} in 5 files" in ran.stdout
    assert f"A cold start, nothing cached: {size} in" in ran.stdout
    assert "The defaults are right." in ran.stdout or "Worth setting:" in ran.stdout
    assert not cache_dir.exists()


def test_a_document_holds_every_figure_and_the_budget_is_kept(hosted, endpoint, cache_dir, link):
    ran = benched(cache_dir, hosted.address, "--json")

    found = json.loads(ran.stdout)
    assert {"node", "model", "link", "cache_dir", "disk", "fuse", "seconds", "measured", "verdict"} == set(
        found
    )
    assert found["link"]["asked_bytes"] <= 16_000_000
    assert link.received_bytes <= 16_000_000 + 1_000_000  # heads, and the listing
    steps = [measured["step"] for measured in found["link"]["curve"]]
    assert 1 == steps[0]["connections"]
    assert all(step["bytes_per_s"] > 0 for step in steps)
    assert found["verdict"]["cold"]["seconds"] > 0


@pytest.mark.parametrize(
    ("code", "words", "source", "options"),
    [
        (2, "unknown scheme gopher://", "gopher://x", ()),
        (2, "--budget 1MB is too little to measure with; give", "s3://tests", ("--budget", "1MB")),
        (3, "there is no bucket no-such-bucket; check its name", "s3://no-such-bucket/x", ()),
        (3, "there is nothing at s3://tests/nowhere", "s3://tests/nowhere", ()),
        (8, "cache directory /proc/nowhere: ", "s3://tests", ("--cache-dir", "/proc/nowhere")),
    ],
)
def test_what_is_wrong_is_one_line(hosted, endpoint, cache_dir, code, words, source, options):
    ran = benched(cache_dir, source, *options)

    assert (code, "") == (ran.returncode, ran.stdout)
    (line,) = ran.stderr.splitlines()
    assert line.startswith("lazyfs: ")
    assert words in line


def test_denied_is_said(hosted, endpoint, cache_dir, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    ran = benched(cache_dir, hosted.address)

    assert 4 == ran.returncode
    assert "the credentials are wrong" in ran.stderr


def test_a_model_of_empty_files_cannot_be_measured(tmp_path, cache_dir):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "empty.safetensors").write_text("")

    ran = benched(cache_dir, f"file://{tmp_path}/model")

    assert 3 == ran.returncode
    assert "every file at" in ran.stderr


class Running:
    """A bench that takes its time; wait until it has come to something, then send it a signal."""

    def __init__(self, source, cache_dir):
        command = ["bench", "--cache-dir", str(cache_dir), "--budget", "20MB", "--seconds", "30", source]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lazyfs", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def reach(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def end(self, number):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_while_it_downloads(hosted, slow_link, cache_dir, number):
    running = Running(hosted.address, cache_dir)
    running.reach(lambda: slow_link.received_bytes > 20_000)

    assert (128 + number, b"", b"") == running.end(number)
    assert not cache_dir.exists()


def test_an_end_while_it_writes(hosted, endpoint, cache_dir, own_tmp):
    cache_dir.mkdir()
    running = Running(hosted.address, cache_dir)
    running.reach(lambda: list(cache_dir.glob("*/*")))

    assert (130, b"", b"") == running.end(signal.SIGINT)
    assert [] == os.listdir(cache_dir)
    assert [] == os.listdir(own_tmp)


def test_an_end_while_it_reads_its_mount(hosted, endpoint, cache_dir, own_tmp):
    running = Running(hosted.address, cache_dir)
    running.reach(lambda: mounted_below(own_tmp))

    assert (130, b"", b"") == running.end(signal.SIGINT)
    assert [] == mounted_below(own_tmp)
    assert [] == os.listdir(own_tmp)


def test_a_mount_does_not_outlive_a_bench_that_is_killed(hosted, endpoint, cache_dir, own_tmp):
    running = Running(hosted.address, cache_dir)
    running.reach(lambda: mounted_below(own_tmp))

    running.end(signal.SIGKILL)

    deadline = time.monotonic() + 60
    while mounted_below(own_tmp):
        assert time.monotonic() < deadline
        time.sleep(0.01)
