"""Whose credentials a worker uses, and that a renewal changes nothing else."""

import os

import pytest

from lazyfs.mount.access import assume, renew

SECRET = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "1", "AWS_ENDPOINT_URL": "http://here"}


@pytest.fixture
def environment(monkeypatch):
    """A machine that has credentials of its own, and says where things are."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("AWS_", "HF_"))]:
        monkeypatch.delenv(name)
    theirs = {
        "AWS_PROFILE": "node",
        "HF_TOKEN": "hf_node",
        "AWS_REGION": "us-east-1",
        "HF_ENDPOINT": "https://hub",
    }
    for name, text in theirs.items():
        monkeypatch.setenv(name, text)
    yield os.environ
    os.environ.clear()
    os.environ.update(kept)


def said(environment):
    return {name: text for name, text in environment.items()
            if name.startswith(("AWS_", "HF_")) and text not in {os.devnull, "true"}}  # fmt: skip


def test_a_worker_has_no_credentials_but_those_it_is_told(environment):
    assume(SECRET)

    assert SECRET | {"AWS_REGION": "us-east-1", "HF_ENDPOINT": "https://hub"} == said(environment)


@pytest.mark.logs("renewal_ignored")
def test_a_renewal_renews_credentials_and_nothing_else(environment, caplog):
    assume(SECRET)
    before = said(environment)

    renew({"AWS_ACCESS_KEY_ID": "two", "AWS_SECRET_ACCESS_KEY": "2", "AWS_ENDPOINT_URL": "http://evil",
           "AWS_REGION": "us-east-1", "HF_ENDPOINT": "http://evil", "AWS_CA_BUNDLE": "/evil"})  # fmt: skip

    assert before | {"AWS_ACCESS_KEY_ID": "two", "AWS_SECRET_ACCESS_KEY": "2"} == said(environment)
    assert "renewal_ignored what='AWS_CA_BUNDLE, AWS_ENDPOINT_URL, HF_ENDPOINT'" in caplog.text


def test_credentials_that_are_left_out_are_gone_and_the_server_stays(environment, caplog):
    assume(SECRET)

    renew({"HF_TOKEN": "hf_two"})

    places = {"AWS_ENDPOINT_URL": "http://here", "AWS_REGION": "us-east-1", "HF_ENDPOINT": "https://hub"}
    assert places | {"HF_TOKEN": "hf_two"} == said(environment)
    assert "renewal_ignored" not in caplog.text


@pytest.mark.logs("renewal_ignored")
def test_who_had_the_nodes_credentials_and_is_given_others_keeps_the_nodes_server(environment):
    renew(SECRET)

    assert {
        "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "1", "AWS_REGION": "us-east-1",
        "HF_ENDPOINT": "https://hub",
    } == said(environment)  # fmt: skip
