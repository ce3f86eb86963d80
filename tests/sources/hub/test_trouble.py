"""What is wrong with a Hub, and what is said of it."""

import json
import os
import subprocess
import sys

import pytest

from lazyfs.core.blob import BlobRef
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    SourceMissing,
    SourceUnavailable,
    SourceUnreachable,
    SourceUntrusted,
    UsageError,
)
from lazyfs.sources import Access, open_source
from lazyfs.sources.hub_client import Answer, target_of
from tests.faults.server import Behaviour, FaultServer
from tests.sources.hub.asking import SECRET, by_name, read, refused


@pytest.mark.real
def test_what_is_not_there_is_named(hub, model, connect):
    hub.repository("org/empty")

    assert "no revision v9" in refused(SourceMissing, by_name, connect("hf://org/model@v9")).cause
    assert "nowhere" in refused(SourceMissing, by_name, connect("hf://org/model/nowhere")).cause
    assert "sub/nothing" in refused(SourceMissing, by_name, connect("hf://org/model/sub/nothing")).cause
    assert "org/none" in refused(SourceMissing, by_name, connect("hf://org/none")).cause
    assert "is empty" in refused(SourceMissing, by_name, connect("hf://org/empty")).cause


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


@pytest.mark.real
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


@pytest.mark.real
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


@pytest.mark.real
def test_the_endpoint_comes_from_the_environment_and_nobody_asks_when_offline(hub, model, tmp_path):
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}

    assert "model.safetensors" in lazyfs_ls(environment).stdout
    hub.forget()
    offline = lazyfs_ls(environment | {"HF_HUB_OFFLINE": "1"})

    assert 2 == offline.returncode
    assert "unset HF_HUB_OFFLINE" in offline.stderr
    assert not hub.asked


@pytest.mark.real
def test_only_what_it_needs_of_the_hubs_client_is_imported():
    """That client's API takes longer to import than a mount takes to be ready."""
    code = "import sys, lazyfs.sources.hub; print('huggingface_hub.hf_api' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()
