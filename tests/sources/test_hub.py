"""What is special to `hf://`, against a Hub-like server: addresses, commits, who may read, what is asked."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from lazyfs.core.blob import BlobRef, ByteRange
from lazyfs.core.layout import Repository
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    BlobChanged,
    CredentialsInvalid,
    LazyfsError,
    LocationRefused,
    SourceMissing,
    SourceThrottled,
    SourceUnavailable,
    SourceUnreachable,
    SourceUntrusted,
    UsageError,
)
from lazyfs.sources import Access, open_source
from lazyfs.sources.hub_address import HubAddress, parse
from lazyfs.sources.hub_client import Answer, target_of
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from tests.faults.server import Behaviour, FaultServer
from tests.hub import Hub

SECRET = "hf_of_the_reader"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    """No token from the environment, or from the files of whoever runs this."""
    from huggingface_hub import constants

    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def hub():
    with Hub(tokens={SECRET: "reader", "hf_other": "other"}) as found:
        yield found


@pytest.fixture
def model(hub, pattern_bytes):
    made = hub.repository("org/model")
    made.commit({
        "config.json": b'{"model_type": "test"}',
        "empty": b"",
        "sub/deep/vocab.txt": b"one\ntwo\n" * 3000,
        "sub/a.safetensors": pattern_bytes(300_000, 2),
        "model.safetensors": pattern_bytes(1_000_001, 1),
    })  # fmt: skip
    return made


@pytest.fixture
def connect(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    opened = []

    def connected(address, **access):
        opened.append(open_source(address, Access(**access)))
        return opened[-1]

    yield connected
    for found in opened:
        found.close()


def by_name(source):
    return {blob.name: blob for blob in source.list()}


def read(source, blob, location=None):
    into = memoryview(bytearray(blob.size_bytes))
    lane = Lane()
    try:
        lane.fetch(
            location or source.locate(blob),
            Wanted(ByteRange(0, blob.size_bytes), blob.size_bytes),
            into,
            lambda _count: None,
        )
    finally:
        lane.close()
    return bytes(into)


def refused(error, work, *arguments):
    with pytest.raises(LazyfsError) as raised:
        work(*arguments)
    assert error is type(raised.value)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)
    return raised.value


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("hf://org/model", HubAddress("models", "org/model", None, "")),
        ("hf://org/model/", HubAddress("models", "org/model", None, "")),
        ("hf://models/org/model", HubAddress("models", "org/model", None, "")),
        ("hf://datasets/org/name", HubAddress("datasets", "org/name", None, "")),
        ("hf://org/model@v1.0", HubAddress("models", "org/model", "v1.0", "")),
        ("hf://org/model:v1.0", HubAddress("models", "org/model", "v1.0", "")),
        ("hf://org/model/a/b", HubAddress("models", "org/model", None, "a/b")),
        ("hf://org/model@v1/a/b@c:d", HubAddress("models", "org/model", "v1", "a/b@c:d")),
        ("hf://org/model/a@b", HubAddress("models", "org/model", None, "a@b")),
        ("hf://org/model@refs/pr/12/a", HubAddress("models", "org/model", "refs/pr/12", "a")),
        ("hf://org/name@refs/convert/parquet", HubAddress("models", "org/name", "refs/convert/parquet", "")),
        ("hf://org/model@feature%2Fx/a", HubAddress("models", "org/model", "feature/x", "a")),
        ("hf://gpt2", HubAddress("models", "gpt2", None, "")),
        ("hf://gpt2@main/a", HubAddress("models", "gpt2", "main", "a")),
        ("hf://datasets/squad", HubAddress("datasets", "squad", None, "")),
        # What could be either is owner and model.
        ("hf://gpt2/config.json", HubAddress("models", "gpt2/config.json", None, "")),
    ],
)
def test_an_address_names_a_repository_a_revision_and_a_place_in_it(address, meant):
    assert meant == parse(address)


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://datasets/", "hf://org/model@", "hf://org//model", "hf://../x", "hf://o/m?x", "hf://spaces/o/s",
     "hf://org/ model", "hf://@v1"],
)  # fmt: skip
def test_an_address_that_names_no_repository_says_how_to_write_one(address):
    with pytest.raises(UsageError) as raised:
        parse(address)

    assert raised.value.cure


# -- what there is ---------------------------------------------------------------------------------------


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


# -- who asks, and what they are shown -------------------------------------------------------------------


@pytest.fixture
def private(hub):
    made = hub.repository("org/private", private=True, readers=("reader",))
    made.commit({"a.safetensors": b"weights", "config.json": b"{}"})
    return made


@pytest.fixture
def gated(hub):
    made = hub.repository("org/gated", gated="manual", readers=("reader",))
    made.commit({"a.safetensors": b"weights", "config.json": b"{}"})
    return made


@pytest.fixture(params=["variable", "file"])
def token(request, monkeypatch, tmp_path):
    if request.param == "variable":
        monkeypatch.setenv("HF_TOKEN", SECRET)
    else:
        (tmp_path / "token").write_text(f"{SECRET}\n")


@pytest.mark.parametrize("name", ["private", "gated"])
@pytest.mark.usefixtures("private", "gated", "token")
def test_who_may_read_reads_with_the_token_and_the_storage_does_not_see_it(hub, connect, name):
    source = connect(f"hf://org/{name}")
    found = by_name(source)

    assert (b"weights", b"{}") == (read(source, found["a.safetensors"]), read(source, found["config.json"]))
    assert hub.of("storage")
    assert not hub.leaked
    assert {f"Bearer {SECRET}"} == {
        asked.headers.get("Authorization") for asked in hub.asked if asked.place == "hub"
    }
    assert SECRET not in repr(source.locate(found["config.json"]))
    # That listing had to see whether it may be read counts: it is not asked again.
    assert 1 + 1 == len(hub.of("resolve"))


def test_a_private_repository_is_not_there_for_others(private, connect, monkeypatch):
    assert "set HF_TOKEN" in refused(SourceMissing, by_name, connect("hf://org/private")).cure
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "whose token" in refused(SourceMissing, by_name, connect("hf://org/private")).cure


def test_a_gated_repository_is_refused_at_once_with_the_page_to_visit(hub, gated, connect, monkeypatch):
    without = refused(AccessDenied, by_name, connect("hf://org/gated"))
    assert f"accept its conditions at {hub.url}/org/gated" in without.cure
    assert "set HF_TOKEN" in without.cure
    monkeypatch.setenv("HF_TOKEN", "hf_other")

    other = refused(AccessDenied, by_name, connect("hf://org/gated"))

    assert f"{hub.url}/org/gated" in other.cure
    assert "set HF_TOKEN" not in other.cure


def test_a_token_nobody_has_is_told(hub, model, connect, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mistyped")

    error = refused(CredentialsInvalid, by_name, connect("hf://org/model"))

    assert f"{hub.url}/settings/tokens" in error.cure
    assert "hf_mistyped" not in str(error)


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_anonymous_is_without_the_token(hub, model, connect, monkeypatch, how):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_mistyped")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", how == "variable")

    assert by_name(connect("hf://org/model", anonymous=how == "flag"))
    assert all("Authorization" not in asked.headers for asked in hub.asked)


def test_a_token_that_was_renewed_meanwhile_is_found(hub, private, connect, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    source = connect("hf://org/private")
    blob = by_name(source)["a.safetensors"]
    source.locate(blob)
    del hub.tokens[SECRET]
    hub.tokens["hf_new"] = "reader"
    refused(CredentialsInvalid, source.locate, blob)

    monkeypatch.setenv("HF_TOKEN", "hf_new")

    assert b"weights" == read(source, blob)


def test_a_token_that_was_renewed_meanwhile_is_found_for_small_files_too(hub, private, connect, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    source = connect("hf://org/private")
    blob = by_name(source)["config.json"]
    assert b"{}" == read(source, blob)
    del hub.tokens[SECRET]
    hub.tokens["hf_new"] = "reader"
    refused(LocationRefused, read, source, blob)

    (tmp_path / "token").write_text("hf_new")

    assert b"{}" == read(source, blob)


@pytest.mark.logs("token_unreadable")
def test_what_is_no_token_does_not_take_the_place_of_one(private, connect, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    source = connect("hf://org/private")
    blob = by_name(source)["config.json"]
    source.locate(blob)

    (tmp_path / "token").write_bytes(b"\xff\xfe")

    assert b"{}" == read(source, blob)


@pytest.mark.parametrize("text", ["hf_gehe\u00efm", "hf_\u6a21\u578b", "hf_a b", "hf_a\tb", "\ufeffhf_abc"])
def test_a_variable_that_holds_no_token_is_told_and_not_repeated(connect, monkeypatch, text):
    monkeypatch.setenv("HF_TOKEN", text)

    error = refused(CredentialsInvalid, connect, "hf://org/model")

    assert "HF_TOKEN" in error.cause
    assert text not in str(error)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfhf_abc\n", b"\xff\xfeh\x00f\x00", b"hf_\x80abc"])
def test_a_token_file_that_holds_no_token_is_told_and_not_repeated(connect, tmp_path, content):
    (tmp_path / "token").write_bytes(content)

    error = refused(CredentialsInvalid, connect, "hf://org/model")

    assert str(tmp_path / "token") in error.cause
    assert "abc" not in str(error)
    assert connect("hf://org/model", anonymous=True)


@pytest.mark.parametrize("subject", [None, "eyJhbGciOi"])
def test_a_provider_of_tokens_that_gives_none_is_told(hub, connect, monkeypatch, subject):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_OIDC_RESOURCE", "org/model")
    if subject:
        monkeypatch.setenv("HF_OIDC_ID_TOKEN", subject)

    error = refused(CredentialsInvalid, connect, "hf://org/model")

    assert "HF_OIDC_RESOURCE" in error.cause
    assert "eyJhbGciOi" not in str(error)
    assert connect("hf://org/model", anonymous=True)


@pytest.mark.logs("token_unreadable")
def test_a_token_file_that_cannot_be_read_is_told(model, connect, tmp_path):
    (tmp_path / "token").mkdir()

    assert by_name(connect("hf://org/model"))


# -- how often is asked ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("style", "told"), [("s3", True), ("cloudfront", True), ("silent", False)])
def test_a_location_says_when_it_expires_if_its_url_does(hub, model, connect, style, told):
    hub.conduct.style, hub.conduct.expires_s = style, 600.0
    source = connect("hf://org/model")

    location = source.locate(by_name(source)["model.safetensors"])

    assert told == (location.expires_at_s is not None)
    assert not told or abs(location.expires_at_s - time.time() - 600) < 5


def test_the_clock_that_counts_is_the_hubs(hub, model, connect, monkeypatch):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    ours = time.time
    monkeypatch.setattr("lazyfs.sources.hub_client.time.time", lambda: ours() + 86_400)
    location = source.locate(blob)

    assert abs(location.expires_at_s - (ours() + 86_400 + 3600)) < 5


def test_ranges_are_read_without_asking_the_hub_again(hub, model, connect):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    location = source.locate(blob)
    hub.forget()
    lane = Lane()
    for start in range(0, 100_000, 10_000):
        into = memoryview(bytearray(10_000))
        lane.fetch(
            location, Wanted(ByteRange(start, start + 10_000), blob.size_bytes), into, lambda _count: None
        )
    lane.close()

    assert {"storage 206": 10} == hub.counts


def test_a_resolver_that_throttles_says_for_how_long(hub, model, connect):
    source = connect("hf://org/model")
    found = by_name(source)
    hub.conduct.throttled_share, hub.conduct.reset_s = 1.0, 55

    for work in (source.locate, lambda blob: read(source, blob)):
        error = refused(SourceThrottled, work, found["model.safetensors"])
        assert 56.0 == error.retry_after_s
    refused(SourceThrottled, read, source, found["config.json"])


@pytest.mark.logs("listing_throttled")
def test_a_listing_that_is_throttled_is_waited_for(hub, model, connect, monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        hub.conduct.throttled_api_share = 0.0

    hub.conduct.throttled_api_share, hub.conduct.reset_s = 1.0, 290
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", sleep)

    assert by_name(connect("hf://org/model"))
    assert [291.0] == slept


@pytest.mark.logs("listing_throttled")
def test_a_listing_that_is_throttled_again_and_again_is_given_up(hub, model, connect, monkeypatch):
    slept = []
    hub.conduct.throttled_api_share = 1.0
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", slept.append)

    assert "HF_TOKEN" in refused(SourceThrottled, by_name, connect("hf://org/model")).cure
    assert 5 == len(slept)


@pytest.mark.logs("listing_throttled")
@pytest.mark.parametrize(("after_s", "slept"), [("999999999", []), ("331", []), ("150", [150.0, 150.0])])
def test_a_listing_waits_for_one_window_in_all(server, monkeypatch, caplog, after_s, slept):
    waited = []
    server.behave = lambda _asked: Behaviour(status=429, headers={"Retry-After": after_s})
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", waited.append)
    source = open_source("hf://org/model", Access())

    error = refused(SourceThrottled, by_name, source)
    source.close()

    assert "HF_TOKEN" in error.cure
    assert f"{sum(slept):.0f} s" in error.cause
    assert slept == waited
    assert len(slept) == caplog.text.count("listing_throttled")


@pytest.mark.logs("listing_throttled")
def test_all_pages_of_a_listing_wait_for_one_window_together(hub, model, connect, monkeypatch):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        hub.conduct.throttled_api_share = 0.0

    source = connect("hf://org/model")
    hub.conduct.page_entries, hub.conduct.throttled_api_share, hub.conduct.reset_s = 2, 1.0, 199
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", sleep)
    remember = hub.remember

    def remember_and_throttle_the_next(asked):
        remember(asked)
        hub.conduct.throttled_api_share = float(asked.status == 200)

    monkeypatch.setattr(hub, "remember", remember_and_throttle_the_next)

    assert "after 200 s" in refused(SourceThrottled, by_name, source).cause
    assert [200.0] == waited


def test_a_resolver_that_fails_may_be_asked_again(hub, model, connect):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    hub.conduct.signs_nothing = True

    refused(SourceUnavailable, source.locate, blob)


# -- trouble ---------------------------------------------------------------------------------------------


def test_what_is_not_there_is_named(hub, model, connect):
    hub.repository("org/empty")

    assert "no revision v9" in refused(SourceMissing, by_name, connect("hf://org/model@v9")).cause
    assert "nowhere" in refused(SourceMissing, by_name, connect("hf://org/model/nowhere")).cause
    assert "sub/nothing" in refused(SourceMissing, by_name, connect("hf://org/model/sub/nothing")).cause
    assert "org/none" in refused(SourceMissing, by_name, connect("hf://org/none")).cause
    assert "is empty" in refused(SourceMissing, by_name, connect("hf://org/empty")).cause


@pytest.fixture
def server(monkeypatch):
    """A server that is said to be the Hub."""
    found = FaultServer()
    monkeypatch.setenv("HF_ENDPOINT", found.url(""))
    yield found
    found.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("lazyfs.sources.hub_client.PAUSE_S", 0.0)


DISABLED = "Access to this resource is disabled."
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(body=b"<html>welcome</html>"), SourceUnavailable),
        (Behaviour(body=b"[" * 100_000), SourceUnavailable),
        (Behaviour(body=b"[]", headers=JSON), SourceUnavailable),
        (Behaviour(body=b'{"sha": 5}', headers=JSON), SourceUnavailable),
        (Behaviour(body=b'{"sha": "../x"}', headers=JSON), SourceUnavailable),
        (Behaviour(status=404), SourceUnavailable),
        (Behaviour(status=500), SourceUnavailable),
        (Behaviour(status=403), AccessDenied),
        (Behaviour(status=403, headers={"X-Error-Message": DISABLED}), AccessDenied),
        (Behaviour(status=302, headers={"Location": "http://["}), BadResponse),
        (Behaviour(raw=b"SSH-2.0-OpenSSH_9.6\r\n", close=True), BadResponse),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_no_hub_is_told(server, behaviour, error):
    server.behave = lambda _asked: behaviour
    source = open_source("hf://org/model", Access())

    raised = refused(error, by_name, source)
    source.close()

    assert "127.0.0.1" in raised.cause


@pytest.mark.parametrize(
    "entries",
    [
        b"{}",
        b"[5]",
        b'[{"type": "file"}]',
        b'[{"type": "file", "path": "a", "size": -1, "oid": "x"}]',
        b'[{"type": "file", "path": "a", "size": true, "oid": "x"}]',
        b'[{"type": "file", "path": "a", "size": 1}]',
        b'[{"type": "file", "path": "a", "size": 1, "oid": "x", "lfs": {"oid": "../../etc", "size": 1}}]',
        b'[{"type": "file", "path": "a", "size": 1, "oid": "x", "lfs": 5}]',
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_listing_that_cannot_be_is_refused(server, entries):
    info = json.dumps({"sha": "0" * 40}).encode()
    server.behave = lambda asked: Behaviour(body=entries if "/tree/" in asked.path else info)
    source = open_source("hf://org/model", Access())

    refused(SourceUnavailable, by_name, source)
    source.close()


def listing(server, page):
    """Serve what `page` returns of a path: the body and the path of the next page."""

    def behave(asked):
        if "/tree/" not in asked.path:
            return Behaviour(body=json.dumps({"sha": "0" * 40}).encode())
        body, following = page(asked.path)
        return Behaviour(body=body, headers={"Link": f'<{server.url(following)}>; rel="next"'})

    server.behave = behave
    return open_source("hf://org/model", Access())


def test_a_page_that_leads_to_itself_is_an_error(server):
    source = listing(server, lambda path: (b"[]", path))

    assert "without end" in refused(BadResponse, by_name, source).cause
    source.close()
    assert 2 == len(server.asked)


def test_pages_without_end_are_an_error(server, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.hub.PAGES_MAX", 5)
    source = listing(server, lambda path: (b"[]", f"{path}1"))

    assert "without end" in refused(BadResponse, by_name, source).cause
    source.close()
    assert 1 + 5 == len(server.asked)


def test_more_entries_than_a_model_has_are_refused(server):
    entry = {"type": "file", "oid": "x", "size": 1, "path": "a"}
    page = json.dumps([entry] * 60_000).encode()
    source = listing(server, lambda path: (page, f"{path}1"))

    assert "name a directory" in refused(UsageError, by_name, source).cure
    source.close()
    assert 1 + 2 == len(server.asked)


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_cannot_be_reached_is_told(server):
    server.close()
    source = open_source("hf://org/model", Access())

    error = refused(SourceUnreachable, by_name, source)
    source.close()

    assert "HF_ENDPOINT" in error.cure


@pytest.mark.parametrize(
    "endpoint", ["ftp://hub", "hub.example", "https://user:pass@hub.example", "https://"]
)
def test_an_endpoint_that_is_no_url_is_told_without_repeating_it(endpoint, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    error = refused(UsageError, open_source, "hf://org/model", Access())

    assert "pass" not in str(error)


def test_the_endpoint_of_s3_is_never_shown_the_hubs_token(hub, model, connect, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    s3 = FaultServer()

    found = by_name(connect("hf://org/model", endpoint_url=s3.url("")))
    s3.close()

    assert set(model.at("main").files) == set(found)
    assert not s3.asked


def test_a_ca_bundle_that_cannot_be_read_is_told(monkeypatch):
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")

    refused(SourceUntrusted, open_source, "hf://org/model", Access())


@pytest.mark.usefixtures("impatient")
def test_a_certificate_nobody_signed_is_told(monkeypatch):
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = FaultServer(tls=context)
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    source = open_source("hf://org/model", Access())

    assert "REQUESTS_CA_BUNDLE" in refused(SourceUntrusted, by_name, source).cure
    source.close()
    server.close()


def test_a_redirect_to_an_unprotected_link_is_not_followed():
    with pytest.raises(SourceUntrusted):
        target_of(Answer(302, {"Location": "http://storage.example/x"}, "https://hub.example/a", 0.0))


def test_a_redirect_to_another_hub_is_followed_without_the_token(hub, model, server, monkeypatch):
    """As mirrors do it that keep no files of their own."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    commit = model.refs["main"]
    stored = model.at(commit).files["model.safetensors"]
    server.behave = lambda asked: Behaviour(status=302, headers={"Location": hub.url + asked.path})
    source = open_source("hf://org/model", Access())
    blob = BlobRef(
        "model.safetensors", f"hf://127.0.0.1:{server.port}/models/org/model/model.safetensors", stored.oid,
        stored.size, f"sha256:{stored.sha256}", revision=commit,
    )  # fmt: skip

    assert b"".join(stored.pieces()) == read(source, blob)
    source.close()
    assert f"Bearer {SECRET}" == server.asked[0].headers["authorization"]
    assert all("Authorization" not in asked.headers for asked in hub.asked)


def test_a_circle_of_redirects_ends(server):
    server.behave = lambda asked: Behaviour(status=302, headers={"Location": asked.path})
    source = open_source("hf://org/model", Access())
    blob = BlobRef(
        "a", f"hf://127.0.0.1:{server.port}/models/org/model/a", "x", 1, f"sha256:{'0' * 64}", 0, "c"
    )

    refused(BadResponse, source.locate, blob)
    source.close()


def lazyfs_ls(environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "lazyfs", "ls", "hf://org/model"],
        env=inherited | environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_the_endpoint_comes_from_the_environment_and_nobody_asks_when_offline(hub, model, tmp_path):
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}

    assert "model.safetensors" in lazyfs_ls(environment).stdout
    hub.forget()
    offline = lazyfs_ls(environment | {"HF_HUB_OFFLINE": "1"})

    assert 2 == offline.returncode
    assert "unset HF_HUB_OFFLINE" in offline.stderr
    assert not hub.asked


def test_only_what_it_needs_of_the_hubs_client_is_imported():
    """That client's API takes longer to import than a mount takes to be ready."""
    code = "import sys, lazyfs.sources.hub; print('huggingface_hub.hf_api' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
