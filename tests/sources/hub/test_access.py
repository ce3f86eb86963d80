"""Who may read what of a Hub, and what they are told."""

import pytest

from lazyfs.errors import AccessDenied, CredentialsInvalid, LocationRefused, SourceMissing
from tests.sources.hub.asking import SECRET, by_name, read, refused

pytestmark = pytest.mark.real


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
