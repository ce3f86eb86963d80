"""Whoever reads a mount gets what is on disk, while it streams in; each on a new mount with no cache."""

import shutil

import pytest

from tests.e2e.mounting import mounted

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def original(engine, small):
    """What is on disk: digests of all tensors."""
    return engine.load("safetensors", small.directory, digest=True)["digests"]


@pytest.fixture(scope="module")
def tokens_from_disk(engine, small):
    return {reader: engine.load(reader, small.directory)["tokens"] for reader in ("vllm", "transformers")}


@pytest.fixture
def mount(small, tmp_path):
    cache = tmp_path / "cache"
    options = ("--cache-dir", cache, "--cache-size", "5GB")
    with mounted(small.address, tmp_path / "mnt", *options, env=small.environment) as found:
        yield found
    shutil.rmtree(cache)


@pytest.mark.parametrize(
    ("reader", "options"),
    [
        ("vllm", {}),
        ("vllm", {"safetensors_load_strategy": "prefetch"}),
        ("vllm", {"safetensors_load_strategy": "eager"}),
        ("vllm", {"load_format": "runai_streamer"}),
        ("transformers", {}),
    ],
    ids=["vllm", "vllm-prefetch", "vllm-eager", "vllm-runai-streamer", "transformers"],
)
def test_it_reads_every_tensor_right_and_says_the_same_tokens(
    engine, original, tokens_from_disk, mount, reader, options
):
    said = engine.load(reader, mount.path, options, digest=True)
    assert original == said["digests"]
    assert tokens_from_disk[reader] == said["tokens"]


@pytest.mark.parametrize("reader", ["fastsafetensors", "runai"])
def test_it_reads_every_tensor_right(engine, original, mount, reader):
    assert original == engine.load(reader, mount.path, digest=True)["digests"]


def test_the_original_has_the_tensors_of_its_index(original, small):
    assert len(original) == 3 + 9 * 8
