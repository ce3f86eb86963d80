"""The same weights from S3 and from the Hub: one copy on the node, of bytes that were checked."""

import hashlib
import os

import pytest

from lazyfs.core.publication import FILE_NAME
from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import lazyfs, mounted
from tests.hub import Hub

DIGESTS = {"s3": 5, "hf": 3}
"""Files whose digest is known: `lazyfs publish` states all, the Hub those of large files."""


@pytest.fixture
def options(cache_dir):
    return "--cache-dir", cache_dir, "--block-size", BLOCK


@pytest.fixture
def hub(monkeypatch, tmp_path, model):
    """The model on the Hub."""
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    with Hub() as found:
        found.repository("org/model").add(model)
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield found


@pytest.fixture
def published(bucket, endpoint, model):
    """The model in S3, with its digests."""
    done = lazyfs("publish", str(model), bucket.address)
    assert 0 == done.returncode, done.stderr
    return bucket.address


@pytest.fixture
def endpoint(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)


def load(source, mnt, options, digests):
    """Mount, read everything, wait until it is verified; return the status."""
    with mounted(source, mnt, *options) as mount:
        assert digests == {name: hashlib.sha256((mnt / name).read_bytes()).hexdigest() for name in digests}
        mount.complete()
        return mount.wait_for(lambda status: status["files_verified"] == DIGESTS[source[:2]])


def stored_bytes(cache_dir):
    return sum(path.stat().st_blocks * 512 for path in cache_dir.rglob("data"))


def test_what_came_from_s3_is_not_fetched_from_the_hub(
    published, hub, mnt, options, cache_dir, digests, model
):
    load(published, mnt, options, digests)

    status = load("hf://org/model", mnt, options, digests)

    weights_bytes = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert status["bytes_fetched"] <= status["bytes_needed"] - weights_bytes
    assert not hub.of("storage")
    assert stored_bytes(cache_dir) < 1.1 * status["bytes_needed"]


def test_what_came_from_the_hub_is_not_fetched_from_s3(published, hub, mnt, options, digests):
    load("hf://org/model", mnt, options, digests)

    assert load(published, mnt, options, digests)["bytes_fetched"] < 2_000_000


@pytest.mark.usefixtures("endpoint")
def test_a_bucket_that_claims_the_digests_of_others_changes_nothing_for_them(
    bucket, hub, mnt, options, digests, model, tmp_path
):
    """Its lazyfs.json says that other bytes are the model's; they are never shown under the Hub's name."""
    evil = tmp_path / "evil"
    evil.mkdir()
    name = "model-00001-of-00003.safetensors"
    content = (model / name).read_bytes()
    (evil / name).write_bytes(content[:-1000] + bytes(1000))
    assert 0 == lazyfs("publish", str(evil), bucket.address).returncode
    wrong, right = (hashlib.sha256(file.read_bytes()).hexdigest() for file in (evil / name, model / name))
    claims = bucket.client.get_object(Bucket=bucket.name, Key=bucket.key(FILE_NAME))["Body"].read()
    bucket.put(FILE_NAME, claims.replace(wrong.encode(), right.encode()))

    with mounted(bucket.address, mnt, *options) as mount:
        assert wrong == hashlib.sha256((mnt / name).read_bytes()).hexdigest()
        mount.wait_for_log("digest_mismatch")
        mount.wait_for(lambda status: f"{name} is not what its publisher says" in status["last_error"])

    load("hf://org/model", mnt, options, digests)


def test_models_of_both_are_in_one_cache_of_the_hub_and_each_is_asked_for_at_its_own_place(
    published, aws, hub, mnt, options, digests, monkeypatch
):
    """--endpoint-url is of S3 alone: what is asked of the Hub, with its token, does not go there."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    hub.tokens["hf_reader"] = "reader"
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    sources = "hf://org/model", f"other/model={published}"
    endpoint = "--endpoint-url", aws.endpoint_url

    with mounted(sources, mnt, *options, *endpoint, "--layout", "hf-cache"):
        found = [*mnt.glob("hub/models--*/snapshots/*"), *mnt.glob("models--*/snapshots/*")]
        names = {path.parents[1].name: path for path in found}
        assert {"models--org--model", "models--other--model"} == set(names)
        for path in names.values():
            assert digests == {
                name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in digests
            }
    assert {"Bearer hf_reader"} == {
        asked.headers.get("Authorization") for asked in hub.asked if asked.place == "hub"
    }
