"""What every source promises (`lazyfs.sources.base`), for each source against a real place."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.core.manifest import build
from lazyfs.errors import BlobChanged, OriginMismatch, SourceMissing
from lazyfs.sources import open_source
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted

ODD_NAMES = [
    "with space.bin", "quote'and\".bin", "100%.bin", "a+b.bin", "hash#1.bin", "q?x=1&y.bin", "ünï/模型.bin",
    "trailing space ", "~tilde", "semi;colon:comma,", "(paren)[bracket]{brace}", "a=b@c:d$e!",
]  # fmt: skip


@pytest.fixture
def source(place):
    opened = []

    def connect():
        opened.append(open_source(place.address, place.access))
        return opened[-1]

    yield connect
    for found in opened:
        found.close()


def read(source, blob, start=0, stop=None):
    stop = blob.size_bytes if stop is None else stop
    into = memoryview(bytearray(stop - start))
    lane = Lane()
    try:
        lane.fetch(
            source.locate(blob), Wanted(ByteRange(start, stop), blob.size_bytes), into, lambda _count: None
        )
    finally:
        lane.close()
    return bytes(into)


def assert_pinned(place, found, blob, content):
    """What has changed since is not read: it is what was pinned, where that is kept, or an error."""
    if place.keeps_versions:
        assert content == read(found, blob)
    else:
        with pytest.raises(BlobChanged):
            read(found, blob)


def by_name(found):
    return {blob.name: blob for blob in found.list()}


def test_names_are_relative_sizes_are_right_and_nothing_is_missing(place, source):
    content = {"config.json": b"{}", "a/b/c/deep.bin": b"x" * 1000, "empty": b""}
    for name, body in content.items():
        place.put(name, body)

    assert {name: len(body) for name, body in content.items()} == {
        name: blob.size_bytes for name, blob in by_name(source()).items()
    }


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_listed_as_it_is_and_its_bytes_are_read(place, source, name):
    place.put(name, b"0123456789")
    found = source()

    (blob,) = found.list()

    assert name == blob.name
    assert b"3456" == read(found, blob, 3, 7)
    assert (blob,) == build("s", [blob]).blobs


def test_a_large_object_is_read_by_ranges(place, source, pattern_bytes):
    content = pattern_bytes(3_000_001)
    place.put("large", content)
    found = source()
    blob = by_name(found)["large"]

    assert content[:10] == read(found, blob, 0, 10)
    assert content[1_000_000:2_000_003] == read(found, blob, 1_000_000, 2_000_003)
    assert content[-1:] == read(found, blob, 3_000_000)
    assert content == read(found, blob)


def test_listing_again_gives_the_same_versions(place, source):
    place.put("a", b"1")

    assert list(source().list()) == list(source().list())


def test_another_content_is_another_version(place, source):
    place.put("a", b"1")
    (before,) = source().list()
    place.put("a", b"2")
    (after,) = source().list()

    assert before.version != after.version
    assert before.store_key != after.store_key


def test_an_object_replaced_after_it_was_pinned_is_never_read(place, source):
    place.put("a", b"old" * 1000)
    found = source()
    blob = by_name(found)["a"]
    place.put("a", b"new" * 1000)

    assert_pinned(place, found, blob, b"old" * 1000)


def test_an_object_deleted_after_it_was_pinned_is_changed(place, source):
    place.put("a", b"old")
    found = source()
    blob = by_name(found)["a"]
    place.remove("a")

    assert_pinned(place, found, blob, b"old")


def test_a_blob_that_was_listed_elsewhere_is_refused_with_the_cure(place, source):
    place.put("a", b"1")
    found = source()
    (blob,) = found.list()
    kind, _, rest = blob.origin.partition("://")

    for origin in (f"{kind}://evil.example/{rest}", f"other://{rest}", "s3://aws/a", f"hf://{rest}", ""):
        if origin.startswith("file://"):
            continue  # a link may lead anywhere on this machine: the gate says where it may
        with pytest.raises(OriginMismatch) as raised:
            found.locate(replace(blob, origin=origin))
        assert raised.value.cure


def test_an_empty_place_is_missing_and_says_what_to_do(source):
    with pytest.raises(SourceMissing) as raised:
        list(source().list())

    assert raised.value.cure


def test_a_place_that_does_not_exist_is_missing(place):
    found = open_source(f"{place.address}/nowhere", place.access)
    try:
        with pytest.raises(SourceMissing) as raised:
            list(found.list())
    finally:
        found.close()

    assert "nowhere" in raised.value.cause
    assert raised.value.cure


def test_one_object_is_a_directory_of_one(place):
    place.put("model.gguf", b"weights")
    place.put("model.gguf.txt", b"not this")
    found = open_source(f"{place.address}/model.gguf", place.access)
    try:
        (blob,) = found.list()

        assert "model.gguf" == blob.name
        assert b"weights" == read(found, blob)
    finally:
        found.close()


def test_32_threads_locate_and_read_at_once(place, source, pattern_bytes):
    content = pattern_bytes(320_000)
    place.put("a", content)
    found = source()
    blob = by_name(found)["a"]

    with ThreadPoolExecutor(32) as threads:
        parts = list(threads.map(lambda n: read(found, blob, n * 10_000, (n + 1) * 10_000), range(32)))

    assert content == b"".join(parts)


def test_a_location_shows_no_secret(place, source):
    place.put("a", b"1")
    found = source()
    (blob,) = found.list()

    shown = repr(found.locate(blob)) + repr(blob)

    assert "Signature" not in shown
    assert "token" not in shown.lower()
