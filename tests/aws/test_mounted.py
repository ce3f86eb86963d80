"""Real mounts, pulls and volumes with credentials that are given out for a while, by those who do so."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.aws.configuration import SSO_SESSION
from tests.aws.issuing import ROLE
from tests.aws.signing import Refused
from tests.aws.storage import BUCKET
from tests.csi.conftest import a_node
from tests.csi.rig import new_pod, until
from tests.e2e.mounting import lazyfs, mounted

BLOCK = 256 << 10
SIZE = 40 * BLOCK + 17
ADDRESS = f"s3://{BUCKET}/llama"
USES = 8
"""So many requests a key is good for."""


@pytest.fixture(autouse=True)
def content(storage, pattern_bytes):
    found = pattern_bytes(SIZE)
    storage.objects = {"llama/model.safetensors": found, "llama/config.json": b"{}"}
    return found


@pytest.fixture
def options(tmp_path):
    return ("--cache-dir", tmp_path / "cache", "--block-size", BLOCK, "--connections", "2")


def wear_out(storage, uses=USES):
    """Have every key expire after so many requests, at the server: whoever gave it out says it lasts."""
    counts = {}

    def refuse(request):
        scope = (
            request.query.get("X-Amz-Credential")
            or request.headers["authorization"].partition("Credential=")[2]
        )
        access = scope.partition("/")[0]
        counts[access] = counts.get(access, 0) + 1
        return Refused(400, "ExpiredToken") if counts[access] > uses else None

    storage.refuse = refuse


def slow_down(storage, seconds):
    """Have each request for a part of an object take so long."""
    answer = storage.refuse

    def refuse(request):
        if "range" in request.headers:
            time.sleep(seconds)
        return answer(request)

    storage.refuse = refuse


@pytest.fixture
def mnt(tmp_path):
    return tmp_path / "mnt"


@pytest.mark.usefixtures("web_identity")
def test_a_mount_goes_on_though_its_key_is_refused_again_and_again(storage, issuer, mnt, options, content):
    wear_out(storage)
    with mounted(ADDRESS, mnt, *options, "--policy", "demand") as mount:
        assert content == (mnt / "model.safetensors").read_bytes()
        assert not mount.logged("fetch_failed")

    assert {"AssumeRoleWithWebIdentity"} == set(issuer.issued)
    assert len(issuer.issued) > 3
    assert {"ExpiredToken"} == {refused.code for refused in storage.refused}


@pytest.mark.usefixtures("web_identity")
def test_a_pull_goes_on_though_its_keys_last_for_a_second(storage, issuer, tmp_path, options, content):
    issuer.life_s = 1.9
    slow_down(storage, 0.2)
    pulled = lazyfs("pull", ADDRESS, tmp_path / "model", *options)

    assert 0 == pulled.returncode, pulled.stderr
    assert content == (tmp_path / "model" / "model.safetensors").read_bytes()
    used = {request.query["X-Amz-Credential"].partition("/")[0] for request in storage.gets if request.query}
    assert len(used) > 3


def test_as_another_user_a_mount_renews_its_key_too(web_identity, environment, storage, issuer, mnt, content):
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        file = Path(directory) / "token"
        file.write_bytes(web_identity.read_bytes())
        file.parent.chmod(0o755)
        environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
        wear_out(storage)
        with mounted(
            ADDRESS, mnt, "--cache-size", "0", "--block-size", BLOCK, "--connections", "2", "--user", "65534"
        ):
            assert content == (mnt / "model.safetensors").read_bytes()

    assert len(issuer.issued) > 3


def test_a_mount_by_a_profile_that_assumes_a_role(configuration, issuer, mnt, options, content):
    configuration.assume_role()
    with mounted(ADDRESS, mnt, *options):
        assert content == (mnt / "model.safetensors").read_bytes()

    assert {"AssumeRole"} == set(issuer.issued)


def test_a_mount_by_an_sso_token_from_its_cache(configuration, issuer, mnt, options, content):
    configuration.sso()
    configuration.sign_in(SSO_SESSION)
    with mounted(ADDRESS, mnt, *options):
        assert content == (mnt / "model.safetensors").read_bytes()

    assert {"SSO"} == set(issuer.issued)


def test_a_token_that_is_refused_ends_a_mount_with_one_line(web_identity, mnt, options):
    web_identity.write_text("another")
    mnt.mkdir()
    found = lazyfs("mount", ADDRESS, mnt, *options)

    assert 4 == found.returncode
    assert "AssumeRoleWithWebIdentity was refused (InvalidIdentityToken" in found.stderr
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.logs("fetch_retry")
@pytest.mark.usefixtures("web_identity")
def test_an_sts_that_is_away_for_a_while_is_waited_for(storage, issuer, mnt, options, content):
    wear_out(storage)
    with mounted(ADDRESS, mnt, *options, "--policy", "demand", "--read-deadline", "30s") as mount:
        issuer.away = 4
        assert content == (mnt / "model.safetensors").read_bytes()
        assert not mount.logged("fetch_failed")
        assert "Traceback" not in mount.log


@pytest.mark.usefixtures("signed")
def test_a_region_that_changes_under_a_mount_is_found(storage, mnt, options, content):
    with mounted(ADDRESS, mnt, *options, "--policy", "demand") as mount:
        storage.region = "garage"
        assert content == (mnt / "model.safetensors").read_bytes()
        assert not mount.logged("fetch_failed")


# -- volumes -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("web_identity")
def test_a_volume_reads_with_the_web_identity_of_the_mounter_where_that_is_allowed(storage, issuer, content):
    wear_out(storage)
    with a_node(mounter=["--allow-node-identity"]) as node:
        node.start()
        target = node.publish(new_pod(), {"source": ADDRESS, "policy": "demand", "blockSize": str(BLOCK)})
        assert content == (target / "model.safetensors").read_bytes()

    assert {"AssumeRoleWithWebIdentity"} == set(issuer.issued)
    assert len(issuer.issued) > 3


def secret_of(key, storage):
    return {
        "AWS_ACCESS_KEY_ID": key.access, "AWS_SECRET_ACCESS_KEY": key.secret, "AWS_SESSION_TOKEN": key.token,
        "AWS_ENDPOINT_URL": storage.url,
    }  # fmt: skip


@pytest.mark.usefixtures("web_identity")
def test_readers_of_a_volume_wait_for_the_secret_that_follows_one_that_has_expired(storage, issuer):
    attributes = {"source": ADDRESS, "policy": "demand", "blockSize": str(BLOCK)}
    first, pod = storage.keys.issue(3600), new_pod()
    with a_node(mounter=["--allow-node-identity"]) as node, ThreadPoolExecutor() as threads:
        node.start()
        target = node.publish(pod, attributes, secret_of(first, storage))
        storage.keys.known[first.access] = replace(first, expires_at_s=time.time() - 1)
        reading = threads.submit((target / "config.json").read_bytes)
        until(lambda: len(storage.refused) > 5 or reading.done())
        node.publish(pod, attributes, secret_of(storage.keys.issue(3600), storage))

        assert b"{}" == reading.result(60)

    assert [] == issuer.issued  # a volume with a secret never uses the identity of the node


def test_a_secret_cannot_have_a_volume_use_a_token_of_the_mounter(web_identity, storage, issuer):
    secret = {
        "AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(web_identity),
        "AWS_ENDPOINT_URL_STS": issuer.url, "AWS_ENDPOINT_URL": storage.url,
    }  # fmt: skip
    with a_node(mounter=["--allow-node-identity"]) as node:
        node.start()
        with pytest.raises(grpc.RpcError) as raised:
            node.publish(new_pod(), {"source": ADDRESS}, secret)

    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [] == issuer.issued


@pytest.mark.usefixtures("web_identity")
def test_a_volume_without_a_secret_has_no_identity_unless_that_is_allowed(storage, issuer):
    with a_node() as node:
        node.start()
        with pytest.raises(grpc.RpcError) as raised:
            node.publish(new_pod(), {"source": ADDRESS, "endpointUrl": storage.url})

    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [] == issuer.issued
