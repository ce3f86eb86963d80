"""What sources make of a `lazyfs.json` beside the files they list."""

import hashlib

import pytest

from lazyfs.core.publication import FILE_NAME, Publication, Published, encode
from lazyfs.sources import open_source
from tests.sources.places import Directory

PUBLISHED = {"config.json": b"{}", "sub/model.safetensors": b"w" * 1000}


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """Places that list by themselves, and state no digests."""
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    (tmp_path / "models").mkdir()
    return Directory(tmp_path / "models")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def listed(place):
    found = open_source(place.address, place.access)
    try:
        return {blob.name: blob for blob in found.list()}
    finally:
        found.close()


def publish(place, **changes):
    """Put files, and a publication of them, with `changes` in what it says of each."""
    for name, content in PUBLISHED.items():
        place.put(name, content)
    claims = []
    for name, blob in listed(place).items():
        said = {
            "size_bytes": blob.size_bytes,
            "sha256": sha256(PUBLISHED[name]),
            "etag": blob.version.removeprefix("etag:"),
            "modified_ns": blob.modified_ns,
        }
        claims.append(Published(name, **said | changes))
    place.put(FILE_NAME, encode(Publication(tuple(claims))))


@pytest.mark.real
def test_files_have_the_publishers_digests_and_the_publication_is_not_shown(place):
    publish(place)

    assert {name: f"sha256:{sha256(content)}" for name, content in PUBLISHED.items()} == {
        name: blob.digest for name, blob in listed(place).items()
    }


def test_the_same_file_in_two_places_is_one_in_the_store(bucket, tmp_path):
    publish(bucket)
    publish(Directory(tmp_path))

    assert {name: blob.store_key for name, blob in listed(bucket).items()} == {
        name: blob.store_key for name, blob in listed(Directory(tmp_path)).items()
    }


@pytest.mark.real
@pytest.mark.logs("publication_stale")
def test_a_file_that_was_replaced_since_is_as_it_is_listed_and_that_is_told(place, caplog):
    publish(place)
    place.put("config.json", b"{ }"[:2])

    found = listed(place)

    assert [None, f"sha256:{sha256(PUBLISHED['sub/model.safetensors'])}"] == [
        found[name].digest for name in sorted(found)
    ]
    assert "publication_stale files=1 first='config.json'" in caplog.text


@pytest.mark.real
@pytest.mark.logs("publication_stale")
def test_a_file_that_is_gone_is_told(place, caplog):
    publish(place)
    place.remove("sub/model.safetensors")

    assert ["config.json"] == list(listed(place))
    assert "first='sub/model.safetensors'" in caplog.text


@pytest.mark.real
def test_a_publication_that_pins_nothing_says_nothing(place):
    publish(place, etag=None, modified_ns=None)

    assert {None} == {blob.digest for blob in listed(place).values()}


@pytest.mark.real
@pytest.mark.logs("publication_unusable", "publication_unfinished")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON"),
        (b'{"lazyfs": 2, "files": []}', "newer"),
        (encode(Publication(()), complete=False), "not been completed"),
        (b" " * (17 << 20), "larger than"),
    ],
)
def test_one_that_cannot_be_used_keeps_nobody_from_mounting(place, caplog, content, says):
    place.put("config.json", b"{}")
    place.put(FILE_NAME, content)

    assert {"config.json": None} == {name: blob.digest for name, blob in listed(place).items()}
    assert says in caplog.text


@pytest.mark.real
def test_a_file_of_that_name_below_is_a_file(place):
    place.put(f"sub/{FILE_NAME}", b"mine")

    assert [f"sub/{FILE_NAME}"] == list(listed(place))


@pytest.mark.real
def test_a_place_with_nothing_but_a_publication_is_empty(place):
    from lazyfs.errors import SourceMissing

    place.put(FILE_NAME, encode(Publication(())))

    with pytest.raises(SourceMissing):
        listed(place)
