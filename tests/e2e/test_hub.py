"""Real mounts of a model of the Hub-like server: how often it is asked, what is seen, what goes wrong."""

import hashlib
import os
import signal

import pytest

from lazyfs.core.hedging import BURST
from lazyfs.demo.link import Link
from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import lazyfs, mounted
from tests.hub import Hub

SECRET = "hf_of_the_reader"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, and an environment in which it is the Hub."""
    for name in [name for name in os.environ if name.startswith(("HF_", "LAZYFS_"))]:
        monkeypatch.delenv(name)
    with Hub(tokens={SECRET: "reader"}) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield found


@pytest.fixture
def hosted(hub, model):
    made = hub.repository("org/model")
    made.add(model)
    return made


@pytest.fixture
def options(cache_dir):
    return "--cache-dir", cache_dir, "--block-size", BLOCK


@pytest.fixture
def slow_storage(hub, hosted):
    """A link of 20 MB/s to the storage: the model takes two seconds."""
    found = Link(("127.0.0.1", hub.storage_port), rate_bytes_per_s=20e6)
    hub.storage_by = found.port
    yield found
    found.close()


@pytest.fixture
def slower_storage(hub, hosted):
    """A link of 6 MB/s to the storage: the model takes seven seconds."""
    found = Link(("127.0.0.1", hub.storage_port), rate_bytes_per_s=6e6)
    hub.storage_by = found.port
    yield found
    found.close()


def read(mnt, digests):
    return {name: hashlib.sha256((mnt / name).read_bytes()).hexdigest() for name in digests}


def large(repository):
    return [name for name, stored in repository.at("main").files.items() if stored.large]


def test_the_hub_is_asked_once_a_file_and_the_storage_sees_no_token(
    hub, hosted, digests, mnt, options, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with mounted("hf://org/model", mnt, *options) as mount:
        assert digests == read(mnt, digests)
        mount.complete()
        status = str(mount.status())
    assert SECRET not in mount.log + status

    resolved = hub.of("resolve")
    assert {f"Bearer {SECRET}"} == {asked.headers.get("Authorization") for asked in resolved}
    assert len(large(hosted)) == sum(asked.status == 302 for asked in resolved)
    # A small file is one block; the one that is larger is three.
    small = [name for name in digests if name not in large(hosted)]
    blocks = sum(-(-hosted.at("main").files[name].size // BLOCK) for name in small)
    # A small file comes from the resolver itself: on a busy machine it may be asked for twice for being late.
    assert len(large(hosted)) + blocks <= len(resolved) <= len(large(hosted)) + blocks + BURST
    assert len(hub.of("storage")) > 100
    assert not hub.leaked
    assert (1, 1) == (len(hub.of("info")), len(hub.of("tree")))


# Where a URL does not say when it expires, two in a row that are refused are taken for a verdict: they must
# live for longer than a busy machine takes to use one.
@pytest.mark.parametrize(("style", "expires_s"), [("s3", 1.0), ("silent", 2.0)])
@pytest.mark.usefixtures("slower_storage")
def test_a_load_goes_on_though_its_urls_expire_all_the_time(
    hub, hosted, digests, mnt, options, style, expires_s
):
    hub.conduct.style, hub.conduct.expires_s = style, expires_s
    with mounted("hf://org/model", mnt, *options) as mount:
        assert digests == read(mnt, digests)
        mount.complete()

    renewals = sum(asked.status == 302 for asked in hub.of("resolve"))
    assert len(large(hosted)) < renewals < len(hub.of("storage")) / 4


def test_a_load_goes_on_though_the_resolver_throttles_and_urls_expire(
    hub, hosted, slow_storage, digests, mnt, options
):
    hub.conduct.expires_s, hub.conduct.throttled_share, hub.conduct.reset_s = 1.0, 0.3, 0
    with mounted("hf://org/model", mnt, *options) as mount:
        assert digests == read(mnt, digests)
        mount.complete()

    assert [asked for asked in hub.of("resolve") if 429 == asked.status]


def test_the_second_mount_and_another_repository_with_the_same_files_fetch_nothing_large(
    hub, hosted, model, digests, mnt, options
):
    hub.repository("other/copy").add(model)
    with mounted("hf://org/model", mnt, *options) as mount:
        mount.wait_for(lambda status: status["files_verified"] == len(large(hosted)))
    hub.forget()
    for address in ("hf://org/model", "hf://other/copy"):
        with mounted(address, mnt, *options) as mount:
            assert digests == read(mnt, digests)
            mount.complete()

    assert not hub.of("storage")


def test_a_worker_that_dies_is_followed_by_one_that_reads_the_same_commit(
    hub, hosted, slow_storage, digests, mnt, options
):
    with mounted("hf://org/model", mnt, *options) as mount:
        hosted.commit(dict.fromkeys(digests, b"something else"))
        os.kill(mount.worker, signal.SIGKILL)
        assert digests == read(mnt, digests)
        mount.complete()

    assert (1, 1) == (len(hub.of("info")), len(hub.of("tree")))
    assert sum(asked.status == 302 for asked in hub.of("resolve")) <= 2 * len(large(hosted))


def test_the_same_weights_in_other_formats_are_shown_and_fetched_only_when_they_are_read(
    hub, hosted, digests, mnt, options, pattern_bytes
):
    others = {
        "pytorch_model.bin": pattern_bytes(8 << 20, 1),
        "model-q4.gguf": pattern_bytes(6 << 20, 2),
        "original/consolidated.00.pth": pattern_bytes(4 << 20, 3),
    }
    hosted.commit(others)
    with mounted("hf://org/model", mnt, *options) as mount:
        status = mount.complete()
        assert sum((mnt / name).stat().st_size for name in digests) == status["bytes_needed"]
        assert len(digests) + len(others) == status["files"]
        shown = {asked.target.partition("?")[0].rpartition("/")[2] for asked in hub.of("storage")}
        files = hosted.at("main").files
        assert not shown & {files[name].sha256 for name in others}

        for name, content in others.items():
            assert content == (mnt / name).read_bytes()

        assert digests == read(mnt, digests)
        assert status["bytes_needed"] == mount.status()["bytes_local"]
        mount.wait_for_log("duplicates_spared")


def test_a_dataset_of_a_revision_below_a_path(hub, model, digests, mnt, options):
    data = hub.repository("org/data", "datasets")
    data.add(model, "v1")
    with mounted("hf://datasets/org/data@v1/sub", mnt, *options):
        assert ["tokenizer.json"] == sorted(os.listdir(mnt))
        assert {"tokenizer.json": digests["sub/tokenizer.json"]} == read(mnt, ["tokenizer.json"])


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("hf://org/gated", 4, "accept its conditions at"),
        ("hf://org/private", 3, "set HF_TOKEN"),
        ("hf://org/model@v9", 3, "no revision v9"),
        ("hf://org/model/none", 3, "there is no none"),
        ("hf://spaces/org/x", 2, "models and datasets"),
    ],
)
@pytest.mark.usefixtures("hosted")
def test_what_cannot_be_mounted_is_told_before_anything_is(hub, mnt, cache_dir, address, code, said):
    hub.repository("org/gated", gated="auto").commit({"a.safetensors": b"weights"})
    hub.repository("org/private", private=True).commit({"a": b"weights"})
    mnt.mkdir()

    done = lazyfs("mount", address, mnt, "--cache-dir", cache_dir)

    assert code == done.returncode, done.stderr
    assert said in done.stderr
    assert 1 == len(done.stderr.strip().splitlines())


def test_a_token_that_is_replaced_while_mounted_reaches_small_files(hub, mnt, tmp_path):
    made = hub.repository("org/private", private=True, readers=("reader",))
    made.commit({"config.json": b"{}", "generation_config.json": b"[]", "a.safetensors": b"weights"})
    file = tmp_path / "hf" / "token"
    file.parent.mkdir()
    file.write_text(SECRET)

    with mounted("hf://org/private", mnt, "--policy", "demand", "--cache-size", "0"):
        assert b"{}" == (mnt / "config.json").read_bytes()
        del hub.tokens[SECRET]
        hub.tokens["hf_new"] = "reader"
        with pytest.raises(PermissionError):
            (mnt / "generation_config.json").read_bytes()
        file.write_text("hf_new")
        assert b"[]" == (mnt / "generation_config.json").read_bytes()


def test_a_hub_that_is_not_there_is_told(mnt, cache_dir, monkeypatch):
    with Hub() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    mnt.mkdir()

    done = lazyfs("mount", "hf://org/model", mnt, "--cache-dir", cache_dir)

    assert 5 == done.returncode
    assert "check HF_ENDPOINT" in done.stderr


def test_a_pull_asks_once_a_file_and_checks_what_came(hub, hosted, digests, tmp_path, options):
    target = tmp_path / "target"

    ran = lazyfs("pull", *options, "hf://org/model", target)

    assert 0 == ran.returncode, ran.stderr
    assert digests == read(target, digests)
    for name in large(hosted):
        assert (
            f"name={name!r} bytes={hosted.at('main').files[name].size} digest=sha256:{digests[name]}"
            in ran.stderr
        )
    asked = len(hub.of("resolve"))
    assert len(large(hosted)) == sum(one.status == 302 for one in hub.of("resolve"))
    again = lazyfs("pull", *options, "hf://org/model", target)
    assert 0 == again.returncode
    assert asked == len(hub.of("resolve"))
