import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import (
    FIRST_INODE,
    ROOT_INODE,
    Manifest,
    build,
    encode_name,
    from_json,
    refusal,
)
from lazyfs.errors import BadManifest


def blob(name, version="v", size=1):
    return BlobRef(name, f"s3://aws/b/{name}", version, size)


def names(manifest):
    return [blob.name for blob in manifest.blobs]


components = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
)
paths = st.lists(components, min_size=1, max_size=4).map("/".join)


@given(st.lists(paths, max_size=20))
def test_every_name_listed_is_shown_or_refused_once(listed):
    manifest = build("s3://b", [blob(name) for name in listed])

    assert sorted(listed) == sorted(names(manifest) + [refused.name for refused in manifest.refused])
    assert all(refusal(name) is None for name in names(manifest))


@given(st.lists(paths, max_size=20), st.randoms())
def test_the_order_of_listing_changes_nothing(listed, random):
    shuffled = random.sample(listed, len(listed))

    one = build("s3://b", [blob(name) for name in listed])
    other = build("s3://b", [blob(name) for name in shuffled])

    assert one.blobs == other.blobs
    assert one.snapshot_id == other.snapshot_id
    assert one.nodes() == other.nodes()


@given(st.lists(paths, max_size=20))
def test_json_and_back_is_the_same_manifest(listed):
    manifest = Manifest("s3://b", build("s3://b", [blob(name) for name in listed]).blobs)

    assert manifest == from_json(manifest.to_json())


@given(st.lists(paths, max_size=20))
def test_the_tree_leads_to_every_blob_by_its_name_and_to_nothing_else(listed):
    manifest = build("s3://b", [blob(name) for name in listed])
    nodes = manifest.nodes()

    found = {}
    for inode, node in nodes.items():
        assert inode == node.inode
        if node.blob is not None:
            path = []
            while node.inode != ROOT_INODE:
                assert inode == nodes[node.parent].children[node.name] or path
                path.append(node.name)
                node = nodes[node.parent]  # noqa: PLW2901
            found[b"/".join(reversed(path))] = nodes[inode].blob

    assert {encode_name(b.name): b for b in manifest.blobs} == found
    assert set(nodes) - {ROOT_INODE} == set(range(FIRST_INODE, FIRST_INODE + len(nodes) - 1))


def test_siblings_are_in_sorted_order():
    nodes = build("s3://b", [blob(name) for name in ("b", "a/z", "a/y", "c")]).nodes()

    assert [b"a", b"b", b"c"] == list(nodes[ROOT_INODE].children)
    assert [b"y", b"z"] == list(nodes[nodes[ROOT_INODE].children[b"a"]].children)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "component ''"),
        ("/etc/passwd", "component ''"),
        ("a//b", "component ''"),
        ("a/", "component ''"),
        (".", "component '.'"),
        ("..", "component '..'"),
        ("a/../../b", "component '..'"),
        ("a\0b", "NUL"),
        ("x" * 256, "longer than 255"),
        ("é" * 128, "longer than 255"),
        ("/".join(["x" * 200] * 21), "longer than 4095"),
        ("\ud800", "cannot be encoded"),
        (".lazyfs", "lazyfs' own"),
        (".lazyfs/status.json", "lazyfs' own"),
    ],
)
def test_a_hostile_name_is_refused_and_says_why(name, why):
    manifest = build("s3://b", [blob(name), blob("good")])

    assert ["good"] == names(manifest)
    assert why in manifest.refused[0].reason


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "q'\"",
        "100%",
        "a+b",
        "#1",
        "?x=1",
        "ünï",
        "模型",
        "...",
        "a.lazyfs",
        "-rf",
        "x" * 255,
        "\udc80",
    ],
)
def test_an_unusual_name_is_shown_as_it_is(name):
    assert [name] == names(build("s3://b", [blob(name)]))


def test_a_file_gives_way_to_a_directory_of_its_name():
    manifest = build("s3://b", [blob("a"), blob("a/b"), blob("a/b/c"), blob("d")])

    assert ["a/b/c", "d"] == names(manifest)
    assert {"a", "a/b"} == {refused.name for refused in manifest.refused}


def test_a_name_listed_twice_is_shown_once():
    manifest = build("s3://b", [blob("a", version="2"), blob("a", version="1")])

    assert ["1"] == [b.version for b in manifest.blobs]
    assert "listed twice" == manifest.refused[0].reason


def test_patterns_choose_by_path_and_without_a_slash_by_last_component():
    listed = [blob(name) for name in ("a.json", "x/b.json", "x/c.bin", "original/d.pth")]

    assert ["a.json", "x/b.json"] == names(build("s", listed, include=("*.json",)))
    assert ["a.json", "x/b.json"] == names(build("s", listed, exclude=("original/*", "*.bin")))
    assert ["x/b.json"] == names(build("s", listed, include=("x/*",), exclude=("*.bin",)))


def test_the_size_is_the_sum():
    assert 5 == build("s", [blob("a", size=2), blob("b", size=3)]).size_bytes


VALID = json.loads(build("s", [blob("a")]).to_json())


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        VALID | {"format": 2},
        VALID | {"source": 1},
        VALID | {"blobs": {}},
        VALID | {"blobs": [1]},
        VALID | {"blobs": [VALID["blobs"][0] | {"extra": 1}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"size_bytes": -1}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"size_bytes": True}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"name": "../x"}]},
        VALID | {"blobs": VALID["blobs"] * 2},
    ],
)
def test_json_that_is_no_manifest_is_refused(document):
    with pytest.raises(BadManifest):
        from_json(json.dumps(document))


@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"format":1,"source":"s","blobs":[' + b"9" * 5000 + b"]}")
def test_no_bytes_raise_anything_but_bad_manifest(text):
    try:
        from_json(text)
    except BadManifest:
        pass
