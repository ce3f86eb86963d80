"""What `hf://` lists, and reads, of a Hub-like server."""

from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.core.layout import Repository
from lazyfs.errors import BadResponse, BlobChanged, LocationRefused
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from tests.sources.hub.asking import by_name, read, refused

pytestmark = pytest.mark.real


def test_a_listing_is_two_requests_and_knows_the_hashes_of_large_files(hub, model, connect):
    found = by_name(connect("hf://org/model"))

    assert {name: stored.size for name, stored in model.at("main").files.items()} == {
        name: blob.size_bytes for name, blob in found.items()
    }
    stored = model.at("main").files["model.safetensors"]
    assert f"sha256:{stored.sha256}" == found["model.safetensors"].digest
    assert found["config.json"].digest is None
    assert model.at("main").files["config.json"].oid == found["config.json"].version
    assert {"info 200": 1, "tree 200": 1} == hub.counts


@pytest.mark.parametrize("xet", [False, True])
def test_large_files_are_read_whether_they_are_in_xet_as_well_or_not(hub, model, connect, xet):
    hub.conduct.xet = xet
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]

    assert b"".join(model.at("main").files[blob.name].pieces()) == read(source, blob)
    assert not hub.of("xet")


def test_large_files_are_read_though_a_redirect_says_no_more_than_where(hub, model, connect):
    hub.conduct.links_only = True
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]

    assert b"".join(model.at("main").files[blob.name].pieces()) == read(source, blob)


@pytest.mark.parametrize("relative", [False, True])
def test_a_listing_of_many_pages_is_whole(hub, model, connect, relative):
    hub.conduct.page_entries, hub.conduct.relative_pages = 2, relative

    assert set(model.at("main").files) == set(by_name(connect("hf://org/model")))


@pytest.mark.parametrize(
    "link",
    [
        '<{url}>; type="application/json"; rel="next"',
        "<{url}>; rel=next",
        "<{url}>; REL='last Next'",
        '<https://elsewhere.invalid/>; rel="prev", <{url}>; rel="next"',
    ],
)
def test_the_next_page_is_found_however_it_is_said(hub, model, connect, link):
    hub.conduct.page_entries, hub.conduct.link = 2, link

    assert set(model.at("main").files) == set(by_name(connect("hf://org/model")))


@pytest.mark.parametrize("address", ["hf://org/model", "hf://org/model/sub"])
def test_a_listing_whose_pages_do_not_say_that_others_follow_is_refused(hub, model, connect, address):
    hub.conduct.page_entries, hub.conduct.unlinked_pages = 1, True
    error = refused(BadResponse, by_name, connect(address))

    assert "lists 1 files, and not" in error.cause
    assert "Link header" in error.cure


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/sub", {"a.safetensors", "deep/vocab.txt"}),
        ("/sub/deep/", {"vocab.txt"}),
        ("/sub/a.safetensors", {"a.safetensors"}),
        ("/config.json", {"config.json"}),
    ],
)
def test_a_path_is_a_directory_or_one_file(model, connect, path, names):
    source = connect(f"hf://org/model@main{path}")
    found = by_name(source)

    assert names == set(found)
    for blob in found.values():
        whole = path.strip("/") if path.strip("/").endswith(blob.name) else f"{path.strip('/')}/{blob.name}"
        assert b"".join(model.at("main").files[whole].pieces()) == read(source, blob)


@pytest.mark.parametrize("written", ["refs/pr/3", "refs%2Fpr%2F3", "fix%2Fdtype"])
def test_a_revision_with_slashes_is_found(model, connect, written):
    model.refs |= {"refs/pr/3": model.refs["main"], "fix/dtype": model.refs["main"]}

    for mark in "@:":
        assert "config.json" in by_name(connect(f"hf://org/model{mark}{written}"))


def test_a_dataset_is_a_repository_too(hub, connect):
    hub.repository("org/name", "datasets").commit({"a.parquet": b"rows", "README.md": b"text"})
    source = connect("hf://datasets/org/name")

    found = by_name(source)

    assert (b"rows", b"text") == (read(source, found["a.parquet"]), read(source, found["README.md"]))
    assert Repository("org/name", hub.repositories[-1].refs["main"], kind="dataset") == source.repository()


def test_a_revision_is_pinned_to_its_commit_whatever_happens_to_the_branch(model, connect):
    old = model.refs["main"]
    source = connect("hf://org/model@main")
    before = by_name(source)["config.json"]
    model.commit({"config.json": b"{}"})

    assert b'{"model_type": "test"}' == read(source, before)
    assert old == before.revision
    assert Repository("org/model", old, "main") == source.repository()
    for address in (f"hf://org/model@{old}", f"hf://org/model:{old}"):
        assert before == by_name(connect(address))["config.json"]
    assert 2 == by_name(connect("hf://org/model"))["config.json"].size_bytes


def test_a_worker_that_takes_over_reads_the_pinned_commit_without_listing(hub, model, connect):
    blobs = by_name(connect("hf://org/model"))
    model.commit({"config.json": b"{}", "model.safetensors": b"new"})
    hub.forget()
    after = connect("hf://org/model")

    for name in ("config.json", "model.safetensors"):
        stored = model.commits[blobs[name].revision].files[name]
        assert b"".join(stored.pieces()) == read(after, blobs[name])
    assert not hub.of("info") + hub.of("tree")


def test_the_same_file_of_two_revisions_and_addresses_is_one_blob_in_the_store(hub, model, connect):
    before = by_name(connect("hf://org/model"))
    model.commit({"more.txt": b"1"})
    after = by_name(connect("hf://org/model"))
    below = by_name(connect("hf://org/model/sub"))

    assert before["config.json"].store_key == after["config.json"].store_key
    assert before["sub/deep/vocab.txt"].store_key == below["deep/vocab.txt"].store_key
    assert before["model.safetensors"].store_key == after["model.safetensors"].store_key
    assert urlsplit(hub.url).netloc in before["config.json"].origin


def test_a_commit_that_is_gone_is_changed(model, connect):
    source = connect("hf://org/model")
    blobs = by_name(source)
    old = model.refs["main"]
    model.commit({"config.json": b"{}"})
    model.forget(old)

    assert "mount or pull again" in refused(BlobChanged, source.locate, blobs["model.safetensors"]).cure
    refused(BlobChanged, read, source, blobs["config.json"])


def test_a_location_of_another_content_is_not_taken(model, connect):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]

    refused(BlobChanged, source.locate, replace(blob, digest=f"sha256:{'0' * 64}"))
    refused(BlobChanged, source.locate, replace(blob, size_bytes=5))


@pytest.mark.parametrize("small", ["plain", "chunked", "gzip", "redirected", "stored", "hashed"])
def test_small_files_are_read_however_they_come(hub, model, connect, small):
    hub.conduct.small = small
    source = connect("hf://org/model")
    blob = by_name(source)["sub/deep/vocab.txt"]
    hub.forget()

    assert b"one\ntwo\n" * 3000 == read(source, blob)
    assert 1 == len(hub.of("resolve"))


def test_what_the_storage_does_not_have_is_located_again(hub, model, connect):
    """It may have moved, or be away for a moment; whether the commit still has it, the Hub says."""
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    location = source.locate(blob)

    elsewhere = replace(location, url=location.url.replace("/xet-bridge-us/", "/xet-bridge-eu/"))
    assert location.redirected
    refused(LocationRefused, read, source, blob, elsewhere)


def test_a_small_file_of_another_git_id_is_not_taken(model, connect):
    source = connect("hf://org/model")
    blob = by_name(source)["config.json"]

    refused(BlobChanged, read, source, replace(blob, version="0" * 40))


@pytest.mark.parametrize(
    ("small", "resolved"), [("redirected", 1), ("stored", 1), ("hashed", 4), ("plain", 4)]
)
def test_of_several_ranges_of_a_file_in_git_the_resolver_is_asked_once_where_it_redirects(
    hub, connect, pattern_bytes, small, resolved
):
    content = pattern_bytes(9 << 20)
    hub.repository("org/big").commit({"vocab.txt": content})
    hub.conduct.small = small
    source = connect("hf://org/big")
    (blob,) = source.list()
    location = source.locate(blob)
    lane, into = Lane(), memoryview(bytearray(3 << 20))
    for start in range(0, 9 << 20, 3 << 20):
        lane.fetch(location, Wanted(ByteRange(start, start + (3 << 20)), 9 << 20), into, lambda _count: None)
        assert content[start : start + (3 << 20)] == bytes(into)
    lane.close()

    assert resolved == len(hub.of("resolve"))
