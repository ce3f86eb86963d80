"""Addresses of `hf://`."""

import pytest

from lazyfs.errors import UsageError
from lazyfs.sources.hub_address import HubAddress, parse


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("hf://org/model", HubAddress("models", "org/model", None, "")),
        ("hf://org/model/", HubAddress("models", "org/model", None, "")),
        ("hf://models/org/model", HubAddress("models", "org/model", None, "")),
        ("hf://datasets/org/name", HubAddress("datasets", "org/name", None, "")),
        ("hf://org/model@v1.0", HubAddress("models", "org/model", "v1.0", "")),
        ("hf://org/model:v1.0", HubAddress("models", "org/model", "v1.0", "")),
        ("hf://org/model/a/b", HubAddress("models", "org/model", None, "a/b")),
        ("hf://org/model@v1/a/b@c:d", HubAddress("models", "org/model", "v1", "a/b@c:d")),
        ("hf://org/model/a@b", HubAddress("models", "org/model", None, "a@b")),
        ("hf://org/model@refs/pr/12/a", HubAddress("models", "org/model", "refs/pr/12", "a")),
        ("hf://org/name@refs/convert/parquet", HubAddress("models", "org/name", "refs/convert/parquet", "")),
        ("hf://org/model@feature%2Fx/a", HubAddress("models", "org/model", "feature/x", "a")),
        ("hf://gpt2", HubAddress("models", "gpt2", None, "")),
        ("hf://gpt2@main/a", HubAddress("models", "gpt2", "main", "a")),
        ("hf://datasets/squad", HubAddress("datasets", "squad", None, "")),
        # What could be either is owner and model.
        ("hf://gpt2/config.json", HubAddress("models", "gpt2/config.json", None, "")),
    ],
)
def test_an_address_names_a_repository_a_revision_and_a_place_in_it(address, meant):
    assert meant == parse(address)


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://datasets/", "hf://org/model@", "hf://org//model", "hf://../x", "hf://o/m?x", "hf://spaces/o/s",
     "hf://org/ model", "hf://@v1"],
)  # fmt: skip
def test_an_address_that_names_no_repository_says_how_to_write_one(address):
    with pytest.raises(UsageError) as raised:
        parse(address)

    assert raised.value.cure
