"""Credentials of a web server, and what it answers."""

import base64

import pytest

from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    SourceMissing,
    SourceThrottled,
    SourceUnavailable,
    UsageError,
)
from tests.faults.server import Behaviour
from tests.sources import webservers
from tests.sources.http.site import names, read, refused

pytestmark = pytest.mark.real


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("environment", "netrc", "sent"),
    [
        ({"LAZYFS_HTTP_TOKEN": "t0ken\n"}, "", "Bearer t0ken"),
        ({"LAZYFS_HTTP_USER": "me", "LAZYFS_HTTP_PASSWORD": "pä:ss"}, "", basic("me", "pä:ss")),
        ({}, "machine 127.0.0.1 login me password pw", basic("me", "pw")),
        ({}, "machine elsewhere login me password pw", None),
        ({"LAZYFS_HTTP_TOKEN": "t0ken"}, "machine 127.0.0.1 login me password pw", "Bearer t0ken"),
    ],
)
def test_credentials_by_environment_or_netrc(site, opened, monkeypatch, tmp_path, environment, netrc, sent):
    file = tmp_path / "netrc"
    file.write_text(netrc)
    monkeypatch.setenv("NETRC", str(file))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    site.file("/a")
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert b"weights" == read(source, blob)
    assert {sent} == {asked.headers.get("authorization") for asked in site.asked}
    assert sent is None or sent.partition(" ")[2] not in repr(source.locate(blob)) + repr(blob)


def test_anonymous_sends_none(site, opened, monkeypatch):
    monkeypatch.setenv("LAZYFS_HTTP_TOKEN", "t")
    site.file("/a")
    list(opened(site.url("/a"), anonymous=True).list())

    assert not any("authorization" in asked.headers for asked in site.asked)


@pytest.mark.parametrize(
    ("environment", "netrc"),
    [
        ({"LAZYFS_HTTP_TOKEN": "hunter2\r\nX: y"}, None),
        ({"LAZYFS_HTTP_USER": "a:b", "LAZYFS_HTTP_PASSWORD": "hunter2"}, None),
        ({}, "machine 127.0.0.1 login me passwort hunter2"),
        ({"NETRC": "/nonexistent"}, None),
    ],
)
def test_credentials_that_cannot_be_used_are_not_repeated(
    site, opened, monkeypatch, tmp_path, environment, netrc
):
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(AccessDenied) as raised:
        opened(site.url("/a"))

    assert raised.value.cure
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["https://me:hunter2@host/x", "https://host/x?sig=hunter2", "https://host/x#hunter2", "https:///x",
                "https://[x/hunter2"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_and_not_repeated(opened, address):
    with pytest.raises(UsageError) as raised:
        opened(address)

    assert raised.value.cure
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (Behaviour(status=401), AccessDenied),
        (Behaviour(status=404), SourceMissing),
        (Behaviour(status=429, headers={"Retry-After": "3600"}), SourceThrottled),
        (Behaviour(status=418), BadResponse),
    ],
)
def test_what_the_server_answers(site, opened, how, error):
    site.behave = lambda _asked: how

    assert isinstance(refused(opened, site.url("/a")), error)


def test_trouble_is_tried_again(site, opened):
    site.file("/a")
    replies = [
        Behaviour(status=503),
        Behaviour(status=429, headers={"Retry-After": "0"}),
        Behaviour(down_s=0.1),
    ]
    site.behave = lambda _asked: replies.pop(0) if replies else Behaviour()

    assert ["a"] == names(opened(site.url("/a")))


def test_a_host_nobody_listens_on(opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    error = refused(opened, "http://127.0.0.1:9/x")

    assert isinstance(error, SourceUnavailable)
    assert "cannot connect to 127.0.0.1:9: Connection refused" == error.cause


def test_a_host_that_dns_does_not_know(opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    error = refused(opened, "http://nowhere.invalid/x")

    assert "cannot resolve nowhere.invalid" == error.cause
    assert "DNS" in error.cure


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_nobody_listens_on_is_named_as_one(opened, monkeypatch, scheme):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    monkeypatch.setenv(f"{scheme}_proxy", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = refused(opened, f"{scheme}://weights.invalid/x")

    assert "cannot connect to the proxy 127.0.0.1:9: Connection refused" == error.cause
    assert "HTTPS_PROXY" in error.cure


def test_https_to_a_server_that_speaks_http_says_so(tmp_path, opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    with webservers.nginx(tmp_path, tmp_path / "state") as port:
        error = refused(opened, f"https://127.0.0.1:{port}/x")

    assert "does not speak TLS" in error.cause
    assert "http://" in error.cure


def test_a_server_that_goes_on_throttling_says_what_to_do(site, opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    site.pages["/a"] = Behaviour(status=429)
    error = refused(opened, site.url("/a"))

    assert isinstance(error, SourceThrottled)
    assert "later" in error.cure
