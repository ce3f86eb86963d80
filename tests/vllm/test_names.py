"""vLLM and transformers are given a model's name, as where it has been downloaded; it is on a mount."""

import shutil

import pytest

from tests.e2e.mounting import mounted
from tests.hub import Hub
from tests.vllm.engine import Engine, EngineFailed

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

NAMED, OF_HUB = "lazyfs-tests/named", "lazyfs-tests/of-hub"


@pytest.fixture(scope="module")
def from_disk(engine, small):
    """What each says of the model on disk, and the digests of its tensors."""
    return {reader: engine.load(reader, small.directory, digest=True) for reader in ("vllm", "transformers")}


@pytest.fixture(scope="module")
def cache(small, work):
    """A mount laid out as a cache of the Hub, with two models: one from S3, and one from a Hub."""
    place = work / "names"
    place.mkdir()
    options = ("--layout", "hf-cache", "--cache-dir", place / "cache", "--cache-size", "4GB")
    with Hub() as hub:
        hub.repository(OF_HUB).add(small.directory)
        environment = small.environment | {"HF_ENDPOINT": hub.url}
        sources = [f"{NAMED}={small.address}", f"hf://{OF_HUB}"]
        with mounted(sources, place / "mnt", *options, env=environment) as mount:
            yield mount
    shutil.rmtree(place)


@pytest.fixture(scope="module", params=[("HF_HOME", NAMED), ("HF_HUB_CACHE", OF_HUB)], ids=["s3", "hub"])
def offline(request, cache, work):
    """A process for which the mount is all there is, and which may ask nobody; and a model's name."""
    variable, name = request.param
    with Engine(work / f"by-{variable}", {variable: str(cache.path)}) as found:
        yield found, name


@pytest.mark.parametrize("reader", ["vllm", "transformers"])
def test_it_finds_the_model_by_name_and_says_the_same_tokens(offline, from_disk, reader):
    process, name = offline

    said = process.load(reader, name, digest=True)

    assert from_disk[reader]["digests"] == said["digests"]
    assert from_disk[reader]["tokens"] == said["tokens"]


# -- what is written below HF_HOME -------------------------------------------------------------------------

CODE = "from transformers import PretrainedConfig\n\n\nclass Own(PretrainedConfig):\n    said = 'hello'\n"
CONFIG = '{"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.Own"}}'


@pytest.fixture(scope="module")
def home(work):
    """A mount of a model that comes with code of its own."""
    model = work / "own" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text(CONFIG)
    (model / "configuration_own.py").write_text(CODE)
    options = ("--layout", "hf-cache", "--cache-dir", work / "own" / "cache")
    with mounted(f"lazyfs-tests/own=file://{model}", work / "own" / "mnt", *options) as mount:
        yield mount.path


def test_a_models_own_code_runs_when_its_copy_can_be_written_elsewhere(home, tmp_path):
    elsewhere = {"HF_HOME": str(home), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    with Engine(tmp_path / "engine", elsewhere) as engine:
        assert "hello" == engine.load("remote_code", "lazyfs-tests/own")["said"]


def test_a_models_own_code_does_not_run_when_its_copy_would_be_written_to_the_mount(home, tmp_path):
    with (
        Engine(tmp_path / "engine", {"HF_HOME": str(home)}) as engine,
        pytest.raises(EngineFailed, match="Read-only file system"),
    ):
        engine.load("remote_code", "lazyfs-tests/own")
