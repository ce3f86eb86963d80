"""`lazyfs publish` as people run it: to a real S3 server and to a directory; killed, interrupted, again."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lazyfs.core.parts import PART_BYTES
from lazyfs.core.publication import FILE_NAME, encode, parse, parse_unfinished
from lazyfs.demo.link import Link
from tests.e2e.mounting import lazyfs, mounted

LAST = b"partNumber=3"
SLACK_BYTES = 1 << 20
"""Heads of requests, listings and small files."""


@pytest.fixture
def large(tmp_path, pattern_bytes):
    """A directory with two files of three parts each, the last a small one, and a small file."""
    root = tmp_path / "large"
    root.mkdir()
    for seed, name in enumerate(("a.safetensors", "b.safetensors")):
        (root / name).write_bytes(pattern_bytes(2 * PART_BYTES + 4321, seed))
    (root / "config.json").write_text("{}")
    return root


class Gate:
    """Counts what goes to a server, and keeps requests with `held` in their first line until it is opened."""

    def __init__(self, port: int, held: bytes | None = None):
        self.passed_bytes = 0
        self.lines: list[str] = []
        self.full = threading.Event()
        self.opened = threading.Event()
        self.down = False
        """Whether, once it is opened, connections break instead."""
        self._held = held
        self._link = Link(("127.0.0.1", port), on_request=self._pass)
        self.url = f"http://127.0.0.1:{self._link.port}"

    def _pass(self, sent: bytes):
        line = sent.split(b"\r\n", 1)[0]
        if self._held is not None and self._held in line:
            self.full.set()
            self.opened.wait(30)
            if self.down:
                raise ConnectionResetError
        self.passed_bytes += len(sent)
        if sent[:5] in {b"PUT /", b"POST ", b"GET /", b"DELET", b"HEAD "}:
            self.lines.append(line.decode())

    def close(self):
        self.opened.set()
        self._link.close()


@pytest.fixture
def gate(endpoint, monkeypatch):
    gates = []

    def make(held=None):
        gates.append(Gate(endpoint.port, held))
        monkeypatch.setenv("AWS_ENDPOINT_URL", gates[-1].url)
        return gates[-1]

    yield make
    for found in gates:
        found.close()


def published(bucket):
    return parse(bucket.client.get_object(Bucket=bucket.name, Key=bucket.key(FILE_NAME))["Body"].read())


def unfinished(bucket):
    return bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=bucket.prefix).get("Uploads", [])


def there_bytes(bucket):
    """Return how much of the model the server has: whole files, and parts of others."""
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=bucket.prefix).get("Contents", [])
    parts = [
        part
        for upload in unfinished(bucket)
        for part in bucket.client.list_parts(
            Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
        ).get("Parts", [])
    ]
    return sum(entry["Size"] for entry in [*found, *parts])


def contents(root):
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file() and ".lazyfs" not in file.parts
    }


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begun(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "lazyfs", "publish", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.usefixtures("endpoint")
def test_what_was_published_is_mounted_with_the_publishers_digests(bucket, model, digests, mnt, cache_dir):
    done = lazyfs("publish", model, bucket.address)

    assert 0 == done.returncode, done.stderr
    assert f"{bucket.address} has 5 files" in done.stdout
    assert digests == {file.name: file.sha256 for file in published(bucket).files}
    listed = json.loads(lazyfs("ls", "--json", bucket.address).stdout)["files"]
    assert {name: f"sha256:{digest}" for name, digest in digests.items()} == {
        file["name"]: file["digest"] for file in listed
    }
    with mounted(bucket.address, mnt, "--cache-dir", cache_dir) as mount:
        assert digests == contents(mount.path)
    assert [] == mount.logged("WARNING")


@pytest.mark.usefixtures("endpoint")
def test_a_publication_lists_files_as_an_engine_reads_them_with_their_tensors(bucket, model):
    lazyfs("publish", model, bucket.address)

    files = published(bucket).files
    assert ["config.json", "sub/tokenizer.json"] == [file.name for file in files[:2]]
    assert ["layers.0.k", "layers.0.o", "layers.0.q", "layers.0.v"] == list(files[2].tensors[:4])


def test_published_to_a_directory_it_is_mounted_with_digests_and_times(model, digests, tmp_path, mnt):
    target = tmp_path / "there"
    done = lazyfs("publish", model, target)

    assert 0 == done.returncode, done.stderr
    assert digests == {name: digest for name, digest in contents(target).items() if name != FILE_NAME}
    listed = json.loads(lazyfs("ls", "--json", f"file://{target}").stdout)["files"]
    assert set(digests.values()) == {file["digest"].removeprefix("sha256:") for file in listed}
    assert (model / "config.json").stat().st_mtime_ns == (target / "config.json").stat().st_mtime_ns


def test_a_directory_can_be_published_where_it_is(large):
    before = {file.name: file.stat().st_mtime_ns for file in large.iterdir()}
    done = lazyfs("publish", "--json", large, f"file://{large}")

    assert 0 == json.loads(done.stdout)["sent_bytes"]
    assert (
        contents(large).items()
        >= {file.name: file.sha256 for file in parse((large / FILE_NAME).read_bytes()).files}.items()
    )
    assert before.items() <= {file.name: file.stat().st_mtime_ns for file in large.iterdir()}.items()


@pytest.mark.usefixtures("endpoint")
def test_a_model_replaced_by_other_means_is_mounted_as_it_is_now_and_that_is_told(
    bucket, model, mnt, tmp_path
):
    lazyfs("publish", model, bucket.address)
    bucket.put("config.json", b'{"model_type": "west"}')  # of the same size
    with mounted(bucket.address, mnt, "--cache-dir", tmp_path / "cache") as mount:
        assert b'{"model_type": "west"}' == (mount.path / "config.json").read_bytes()
        mount.wait_for_log("publication_stale")
        assert mount.status()["files"] == 5


@pytest.mark.usefixtures("endpoint")
def test_what_no_longer_fits_its_publication_is_neither_pulled_nor_warmed(bucket, model, tmp_path):
    lazyfs("publish", model, bucket.address)
    shards = sorted(path.name for path in model.glob("*.safetensors"))
    content = bytearray((model / shards[0]).read_bytes())
    content[-1] ^= 1
    bucket.put(shards[0], bytes(content))
    bucket.remove("config.json")

    for command in (
        ("pull", bucket.address, tmp_path / "there"),
        ("warm", "--cache-dir", tmp_path / "cache", bucket.address),
    ):
        done = lazyfs(*command)
        assert 1 == done.returncode, command
        assert f"'{shards[0]}', 'config.json': replaced or removed since lazyfs.json" in done.stderr
        assert "publish again, or remove lazyfs.json" in done.stderr
    assert [] == [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    chosen = lazyfs(
        "pull", "--exclude", shards[0], "--exclude", "config.json", bucket.address, tmp_path / "x"
    )
    assert 0 == chosen.returncode, chosen.stderr
    assert "All have their publisher's digest." in chosen.stdout


@pytest.mark.usefixtures("endpoint")
def test_a_model_that_is_half_published_is_neither_pulled_nor_warmed(bucket, model, tmp_path):
    lazyfs("publish", model, bucket.address)
    content = bucket.client.get_object(Bucket=bucket.name, Key=bucket.key(FILE_NAME))["Body"].read()
    bucket.put(FILE_NAME, encode(parse(content), complete=False))

    for command in (
        ("pull", bucket.address, tmp_path / "there"),
        ("warm", "--cache-dir", tmp_path / "cache", bucket.address),
    ):
        done = lazyfs(*command)
        assert 1 == done.returncode, command
        assert "publishing has not been completed; wait for `lazyfs publish`, or run it again" in done.stderr


@pytest.mark.usefixtures("endpoint")
def test_a_pull_says_how_many_files_could_not_be_verified(bucket, model, tmp_path):
    lazyfs("publish", model, bucket.address)
    bucket.put("more.json", b"[]")

    done = lazyfs("pull", bucket.address, tmp_path / "there")

    assert "5 have their publisher's digest; 1 could not be verified, having none." in done.stdout


def test_again_nothing_is_sent_and_nothing_written(bucket, large, gate):
    lazyfs("publish", large, bucket.address)
    again = gate()
    done = lazyfs("publish", large, bucket.address)

    assert 0 == done.returncode, done.stderr
    assert [] == [line for line in again.lines if not line.startswith(("GET", "HEAD"))]


@pytest.mark.usefixtures("endpoint")
def test_of_a_changed_model_what_changed_is_sent(bucket, large, pattern_bytes):
    lazyfs("publish", large, bucket.address)
    (large / "a.safetensors").write_bytes(pattern_bytes(PART_BYTES + 1, 7))
    os.utime(large / "b.safetensors")  # looks changed, and is not
    (large / "new.json").write_text("[]")
    done = json.loads(lazyfs("publish", "--json", large, bucket.address).stdout)

    assert (2, PART_BYTES + 3) == (done["sent_files"], done["sent_bytes"])
    assert contents(large) == {file.name: file.sha256 for file in published(bucket).files}


@pytest.mark.usefixtures("endpoint")
def test_while_it_is_at_work_there_is_no_publication_of_half_a_model(bucket, large, gate, pattern_bytes):
    lazyfs("publish", large, bucket.address)
    (large / "a.safetensors").write_bytes(pattern_bytes(2 * PART_BYTES, 7))
    held = gate(b"partNumber=1")
    process = begun(large, bucket.address)
    assert held.full.wait(60)
    content = bucket.client.get_object(Bucket=bucket.name, Key=bucket.key(FILE_NAME))["Body"].read()
    held.opened.set()

    assert 0 == process.wait(30), process.stderr.read()
    process.stderr.close()
    with pytest.raises(Exception, match="not been completed"):
        parse(content)
    # What it had said of the files that are still the same, the next one would have gone on from.
    assert {"a.safetensors", "b.safetensors", "config.json"} == {
        f.name for f in parse_unfinished(content).files
    }


def test_on_a_terminal_it_shows_how_far_it_is(bucket, large, gate):
    held = gate(LAST)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lazyfs", "publish", str(large), bucket.address],
        stderr=theirs, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b" to go" not in shown:
        shown += os.read(ours, 4096)
    held.opened.set()

    assert 0 == process.wait(30)
    assert b" of 67.1 MB are there, " in shown
    assert b"INFO" not in shown
    os.close(ours)


def test_killed_in_the_middle_only_what_is_missing_is_sent_again(bucket, large, gate):
    total_bytes = sum(file.stat().st_size for file in large.iterdir())
    held = gate(LAST)
    process = begun(large, bucket.address)
    wait_until(lambda: there_bytes(bucket) >= 4 * PART_BYTES)
    process.kill()
    process.communicate()
    held.close()
    again = gate()
    done = lazyfs("publish", large, bucket.address)

    assert 0 == done.returncode, done.stderr
    assert again.passed_bytes <= total_bytes - 4 * PART_BYTES + SLACK_BYTES
    assert contents(large) == {file.name: file.sha256 for file in published(bucket).files}
    assert [] == unfinished(bucket)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_parts_behind(bucket, large, gate, number):
    held = gate(LAST)
    process = begun(large, bucket.address)
    assert held.full.wait(60)
    assert unfinished(bucket)
    process.send_signal(number)
    held.opened.set()
    _, said = process.communicate(timeout=60)

    assert 128 + number == process.returncode
    assert [] == unfinished(bucket)
    assert "run it again" in said
    assert "Traceback" not in said


def test_when_the_server_goes_away_parts_are_kept_for_the_next_time(bucket, large, gate):
    held = gate(LAST)
    process = begun(large, bucket.address)
    assert held.full.wait(60)
    held.down = True
    held.close()  # nobody can connect any more
    process.communicate(timeout=60)

    assert 5 == process.returncode
    assert unfinished(bucket)


@pytest.mark.usefixtures("endpoint")
def test_what_is_no_part_of_a_model_is_left_out_and_named(bucket, tmp_path):
    root = tmp_path / "model"
    (root / ".cache").mkdir(parents=True)
    (root / ".cache" / "lock").write_bytes(b"1")
    (root / "x.safetensors.incomplete").write_bytes(b"1")
    (root / "blob").write_bytes(b"{}")
    (root / "config.json").symlink_to("blob")
    done = lazyfs("publish", root, bucket.address)

    assert ["blob", "config.json"] == sorted(file.name for file in published(bucket).files)
    assert "Left out, being hidden or not complete: .cache/lock, x.safetensors.incomplete." in done.stdout


def test_a_link_that_leads_nowhere_is_refused_by_its_name(large, tmp_path):
    (large / "c.safetensors").symlink_to("../blobs/missing")
    (large / ".cache").symlink_to("nowhere")

    done = lazyfs("publish", large, tmp_path / "there")

    assert 3 == done.returncode
    assert "c.safetensors: a link that leads nowhere; download it again, or --exclude it" in done.stderr
    assert not (tmp_path / "there").exists()
    assert 0 == lazyfs("publish", "--exclude", "c.*", large, tmp_path / "there").returncode


@pytest.mark.usefixtures("endpoint")
def test_a_part_that_is_published_again_leaves_what_is_said_of_the_rest(bucket, large):
    lazyfs("publish", large, bucket.address)
    before = published(bucket)
    bucket.put("b.safetensors", b"another")

    done = lazyfs("publish", "--include", "*.json", large, bucket.address)

    assert {"a.safetensors", "config.json"} == {file.name for file in published(bucket).files}
    assert set(published(bucket).files) <= set(before.files)
    assert "but not published now: a.safetensors, b.safetensors" in done.stdout


@pytest.mark.usefixtures("endpoint")
def test_a_server_that_changes_a_name_is_found_out(bucket, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a\\b.json").write_text("{}")

    done = lazyfs("publish", tmp_path / "model", bucket.address)

    assert 2 == done.returncode
    assert "as 'a/b.json': it changes the name; rename the file" in done.stderr


@pytest.mark.usefixtures("endpoint")
def test_what_else_lies_there_is_named_and_stays(bucket, large):
    bucket.put("old.safetensors", b"old")
    done = lazyfs("publish", large, bucket.address)

    assert "but not published now" in done.stdout
    assert "old.safetensors" in done.stdout
    assert "publish_others_there" in done.stderr
    assert bucket.client.head_object(Bucket=bucket.name, Key=bucket.key("old.safetensors"))


@pytest.mark.usefixtures("endpoint")
def test_a_dry_run_says_what_would_be_sent_and_writes_nothing(bucket, large):
    done = lazyfs("publish", "--dry-run", large, bucket.address)

    assert 0 == done.returncode, done.stderr
    assert "at most 3 would be sent" in done.stdout
    assert 0 == there_bytes(bucket)


@pytest.mark.usefixtures("endpoint")
def test_files_that_were_uploaded_by_other_means_are_not_sent_again(bucket, model, digests):
    for name in digests:
        bucket.put(name, (model / name).read_bytes())
    done = json.loads(lazyfs("publish", "--json", model, bucket.address).stdout)

    assert 0 == done["sent_bytes"]
    assert digests == {file.name: file.sha256 for file in published(bucket).files}


@pytest.mark.parametrize(
    ("variables", "directory", "address", "code", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "large", "{address}", 4, "credentials are wrong"),
        ({}, "nowhere", "{address}", 3, "no directory"),
        ({}, "empty", "{address}", 3, "nothing to publish"),
        ({}, "large", "s3://no-such-bucket-here/x", 3, "no bucket"),
        ({}, "large", "s3://", 2, "names no bucket"),
        ({}, "large", "hf://a/b", 2, "nothing can be published to hf://"),
        ({}, "large", "{large}/inside", 2, "is inside"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "large", "{address}", 5, "cannot connect"),
    ],
)
@pytest.mark.usefixtures("endpoint")
def test_trouble_is_one_line_and_an_exit_code(bucket, large, variables, directory, address, code, says):
    (large.parent / "empty" / ".git").mkdir(parents=True)
    (large.parent / "empty" / ".git" / "config").write_text("")
    where = address.format(address=bucket.address, large=large)
    done = lazyfs("publish", large.parent / directory, where, env=os.environ | variables, timeout=60)

    assert code == done.returncode, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert os.environ["AWS_ACCESS_KEY_ID"] not in done.stderr


def test_the_operator_says_where_to(large, bucket, aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    done = lazyfs("publish", str(large), bucket.address, "--allow-source", "public")

    assert 4 == done.returncode
    assert "a loopback address where no source may be" in done.stderr
