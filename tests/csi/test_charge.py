"""What a worker is told: what the volume wants, within what the node allows."""

import pytest

from lazyfs.config import MountOptions, from_document
from lazyfs_csi.charge import MEMORY_BYTES, order_of
from lazyfs_csi.renewing import with_credentials

SAID = {"sources": ["s3://b/m"], "path": "/mnt", "environment": {"AWS_REGION": "x"}}


def told(wanted, **own):
    return from_document(order_of(SAID | {"options": wanted}, MountOptions(**own))["options"])


@pytest.mark.parametrize(("wanted", "share"), [("10GB", 10**10), ("1MB", 10**6), ("0", 0), ("auto", None)])
@pytest.mark.parametrize("own", [None, 10**9])
def test_a_volumes_cache_size_is_its_share_and_no_reason_to_evict_others(own, wanted, share):
    found = told({"cache_size": wanted}, cache_size=own)
    assert (own, share) == (found.cache_size, found.cache_share)


@pytest.mark.parametrize(
    ("own", "wanted", "most"),
    [(None, "10GB", MEMORY_BYTES), (1 << 30, "10GB", 1 << 30), (None, "64MiB", 64 << 20)],
)
def test_a_volume_has_no_more_memory_than_it_may(own, wanted, most):
    assert most == told({"memory": wanted}, memory=own).memory


def test_what_only_the_operator_says_a_volume_does_not_change():
    found = told({"include": ["*.json"], "policy": "file", "anonymous": True}, allow_source=("private",))

    assert (("private",), ("*.json",), "file", True) == (
        found.allow_source, found.include, found.policy, found.anonymous,
    )  # fmt: skip
    assert {"AWS_REGION": "x"} == order_of(SAID | {"options": {}}, MountOptions())["environment"]


@pytest.mark.logs("renewal_ignored")
@pytest.mark.parametrize("own", [{"AWS_ENDPOINT_URL": "http://here", "HF_TOKEN": "one"}, {}])
def test_of_a_changed_secret_only_credentials_are_taken_and_the_rest_is_said(own, caplog):
    """Without any: the volume had no secret, and used what the node has."""
    told = with_credentials("s", own, {"AWS_ENDPOINT_URL": "http://evil", "HF_TOKEN": "two"})

    assert own | {"HF_TOKEN": "two"} == told
    assert "renewal_ignored source='s' what='AWS_ENDPOINT_URL'" in caplog.text
