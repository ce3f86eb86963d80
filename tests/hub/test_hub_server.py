"""The Hub-like server is one to the Hub's own client, unmodified: `hf download` and `HfApi`."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub import Hub

HF = Path(sys.executable).with_name("hf")


@pytest.fixture
def hub():
    with Hub(tokens={"hf_good": "reader", "hf_other": "other"}) as found:
        yield found


@pytest.fixture
def model(hub, tmp_path, pattern_bytes):
    """A model with large files on disk and in memory, and small ones."""
    shard = tmp_path / "shard"
    shard.write_bytes(pattern_bytes(3_000_001, 1))
    made = hub.repository("org/model")
    made.commit({
        "config.json": b'{"model_type": "test"}',
        "empty.txt": b"",
        "sub/vocab ü.txt": b"one\ntwo\n" * 3000,
        "model-00001-of-00002.safetensors": shard,
        "model-00002-of-00002.safetensors": pattern_bytes(2_000_000, 2),
    })  # fmt: skip
    return made


def hf(hub, home, *arguments, token=None, **more):
    """Run the `hf` command against the server, with its default settings but for `more` variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_UPDATE_CHECK": "1"} | more
    if token is not None:
        environment["HF_TOKEN"] = token
    return subprocess.run(
        [HF, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def digests(root):
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file() and ".cache" not in file.parts
    }


@pytest.mark.parametrize("small", ["plain", "chunked", "gzip", "redirected"])
def test_hf_download_brings_every_byte_and_shows_the_storage_no_token(hub, model, tmp_path, small):
    hub.conduct.small = small
    done = hf(
        hub, tmp_path / "home", "download", "org/model", "--local-dir", tmp_path / "to", token="hf_good"
    )

    assert 0 == done.returncode, done.stderr
    files = model.at("main").files
    assert {name: stored.sha256 for name, stored in files.items()} == digests(tmp_path / "to")
    assert hub.of("storage")
    assert not hub.leaked
    assert all("Bearer hf_good" == asked.headers["authorization"] for asked in hub.of("resolve"))


def test_hf_download_of_files_that_are_in_xet_as_well_when_it_is_told_not_to_ask_there(hub, model, tmp_path):
    hub.conduct.xet = True

    done = hf(
        hub,
        tmp_path / "home",
        "download",
        "org/model",
        "--local-dir",
        tmp_path / "to",
        HF_HUB_DISABLE_XET="1",
    )

    assert 0 == done.returncode, done.stderr
    files = model.at("main").files
    assert {name: stored.sha256 for name, stored in files.items()} == digests(tmp_path / "to")
    assert not hub.of("xet")


def test_hf_download_of_a_revision_a_dataset_and_a_cache_that_is_complete(hub, tmp_path):
    data = hub.repository("org/data", "datasets")
    old = data.commit({"a.parquet": b"old"})
    data.commit({"a.parquet": b"new"})

    done = hf(hub, tmp_path, "download", "org/data", "--repo-type", "dataset", "--revision", old)

    assert 0 == done.returncode, done.stderr
    snapshot = tmp_path / "hub" / "datasets--org--data" / "snapshots" / old
    assert b"old" == (snapshot / "a.parquet").read_bytes()


def test_a_server_that_throttles_now_and_then_is_waited_for(hub, model, tmp_path):
    hub.conduct.throttled_share = 0.2

    done = hf(hub, tmp_path / "home", "download", "org/model", "--local-dir", tmp_path / "to")

    assert 0 == done.returncode, done.stderr
    assert [asked for asked in hub.of("resolve") if 429 == asked.status]


@pytest.fixture
def api(hub, monkeypatch):
    """Make the Hub's API client for a token."""
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    from huggingface_hub import HfApi

    return lambda token=False: HfApi(endpoint=hub.url, token=token)


def test_the_api_lists_a_tree_page_by_page(hub, model, api):
    hub.conduct.page_entries, hub.conduct.xet = 2, True

    listed = list(api().list_repo_tree("org/model", recursive=True))

    files = {entry.path: entry for entry in listed if hasattr(entry, "blob_id")}
    assert set(model.at("main").files) == set(files)
    assert 3 == len(hub.of("tree"))
    shard = files["model-00002-of-00002.safetensors"]
    stored = model.at("main").files[shard.path]
    assert (stored.sha256, stored.size, stored.xet_hash) == (shard.lfs.sha256, shard.size, shard.xet_hash)
    assert files["config.json"].lfs is None


def test_the_api_tells_revisions_and_who_asks(hub, model, api):
    other = model.commit({"more.txt": b"1"}, "pr/1")

    assert model.refs["main"] == api().model_info("org/model").sha
    assert other == api().model_info("org/model", revision="pr/1").sha
    assert {"main", "pr/1"} == {branch.name for branch in api().list_repo_refs("org/model").branches}
    assert "reader" == api("hf_good").whoami()["name"]


def test_refusals_are_those_the_client_knows(hub, model, api):
    from huggingface_hub import errors

    hub.repository("org/private", private=True, readers=("reader",)).commit({"a": b"1"})
    hub.repository("org/gated", gated="manual", readers=("reader",)).commit({"a.bin": b"1"})

    with pytest.raises(errors.RepositoryNotFoundError):
        api().model_info("org/missing")
    with pytest.raises(errors.RepositoryNotFoundError):
        api("hf_other").model_info("org/private")
    assert api("hf_good").model_info("org/private").private
    with pytest.raises(errors.RevisionNotFoundError):
        api().model_info("org/model", revision="nowhere")
    with pytest.raises(errors.EntryNotFoundError):
        list(api().list_repo_tree("org/model", "nowhere"))
    with pytest.raises(errors.GatedRepoError):
        _metadata(hub, "org/gated", "a.bin", "hf_other")
    assert 1 == _metadata(hub, "org/gated", "a.bin", "hf_good").size


def _metadata(hub, name, file, token):
    from huggingface_hub import get_hf_file_metadata

    return get_hf_file_metadata(f"{hub.url}/{name}/resolve/main/{file}", token=token)


def test_metadata_of_a_large_file_is_where_it_is_stored_and_for_how_long(hub, model):
    hub.conduct.xet = True
    found = _metadata(hub, "org/model", "model-00001-of-00002.safetensors", False)

    stored = model.at("main").files["model-00001-of-00002.safetensors"]
    assert (stored.sha256, stored.size) == (found.etag, found.size)
    assert model.refs["main"] == found.commit_hash
    assert stored.xet_hash == found.xet_file_data.file_hash
    assert found.location.startswith(hub.storage_url)
