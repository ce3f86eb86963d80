"""vLLM starts on a model of 2 GB from local disk, after a download, and on lazyfs, over one slow link."""

import pytest

from tests.vllm.hosting import LINK_BYTES_PER_S
from tests.vllm.starting import WAYS
from tests.vllm.timeline import picture, table

BLOCK_BYTES = 8 << 20

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def starts(large, work):
    return {name: way(large, work / f"start-{name}") for name, way in WAYS.items()}


@pytest.fixture(scope="module", autouse=True)
def _timeline(starts, large, pytestconfig):
    """Show the timeline, which is what this is about; figures are for people, no test asserts them."""
    timelines = [started.timeline for started in starts.values()]
    alone_s = large.size_bytes / LINK_BYTES_PER_S
    lines = [*picture(timelines), "", *table(timelines), "", f"The link alone needs {alone_s:.1f} s."]
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n\n" + "\n".join(lines))


@pytest.mark.parametrize("way", ["download", "lazyfs"])
def test_vllm_says_the_same_tokens_as_from_local_disk(starts, way):
    assert starts["disk"].tokens == starts[way].tokens


@pytest.mark.parametrize("way", ["download", "lazyfs"])
def test_vllm_finds_them_exactly_as_likely_as_from_local_disk(starts, way):
    assert starts["disk"].logprobs == starts[way].logprobs


def test_lazyfs_fetches_a_block_again_only_if_its_disk_was_too_slow_to_keep_it(starts, large):
    status = starts["lazyfs"].status
    again_bytes = status["bytes_fetched"] - large.size_bytes
    assert 0 <= again_bytes <= status["declined"] * BLOCK_BYTES, status
