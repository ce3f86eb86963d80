import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import (
    Manifest,
    Part,
    arranged,
    build,
    from_json,
    refusal,
)
from lazyfs.core.tree import FIRST_INODE, ROOT_INODE, Extra, Kind, encode_name
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
        VALID | {"format": 3},
        VALID | {"source": 1},
        VALID | {"blobs": {}},
        VALID | {"blobs": [1]},
        VALID | {"blobs": [VALID["blobs"][0] | {"extra": 1}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"size_bytes": -1}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"size_bytes": True}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"name": "../x"}]},
        VALID | {"blobs": VALID["blobs"] * 2},
        VALID | {"blobs": [VALID["blobs"][0] | {"size_bytes": 2**63}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"modified_ns": -(2**63)}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"digest": "sha256:../../etc/passwd"}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"digest": "md5:x"}]},
        VALID | {"blobs": [VALID["blobs"][0] | {"revision": None}]},
    ],
)
def test_json_that_is_no_manifest_is_refused(document):
    with pytest.raises(BadManifest):
        from_json(json.dumps(document))


NAME = "m/snapshots/1/a"
ARRANGED = json.loads(
    Manifest(
        "s",
        (blob(NAME),),
        (),
        (Part("s", "m/snapshots/1"),),
        (Extra("m/refs/main", Kind.FILE, "1"), Extra("hub", Kind.LINK, "."), Extra("m/b", Kind.ALIAS, NAME)),
    ).to_json()
)


def extra(**fields):
    return {"extras": [{"name": "x", "kind": "file", "content": "y"} | fields]}


def test_an_arranged_manifest_comes_back():
    text = json.dumps(ARRANGED, sort_keys=True, separators=(",", ":"))

    assert text == from_json(text).to_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 1.5},
        {"parts": None},
        {"parts": []},
        {"parts": [1]},
        {"parts": [{"source": "s"}]},
        {"parts": [{"source": "s", "directory": 1}]},
        {"parts": [{"source": "s", "directory": "m/snapshots/2"}]},
        {"parts": [{"source": "\ud900", "directory": "m/snapshots/1"}]},
        {"extras": {}},
        extra(more=1),
        extra(kind="socket"),
        extra(content=None),
        extra(content="\ud900"),
        extra(name=""),
        extra(name="../x"),
        extra(name=".lazyfs/x"),
        extra(name=NAME),
        extra(name=f"{NAME}/below"),
        extra(name="m/snapshots"),
        extra(kind="alias", content="m/refs/main"),
        extra(kind="link", content=""),
        extra(kind="link", content="a\0b"),
        {"extras": [ARRANGED["extras"][0], {"name": "m/refs/main/x", "kind": "file", "content": ""}]},
        {"extras": [ARRANGED["extras"][0]] * 2},
    ],
)
def test_an_arranged_manifest_that_is_none_is_refused(changed):
    with pytest.raises(BadManifest):
        from_json(json.dumps(ARRANGED | changed))


def test_a_flat_manifest_is_what_every_version_has_written_and_numbered():
    """A worker that takes over from an older version must show the kernel the very same inodes."""
    written = (
        '{"blobs":[{"digest":null,"modified_ns":5,"name":"a.json","origin":"s3://aws/b/a.json",'
        '"size_bytes":1,"version":"v"},{"digest":null,"modified_ns":6,"name":"d/e/f","origin":'
        '"s3://aws/b/d/e/f","size_bytes":2,"version":"v"},{"digest":null,"modified_ns":7,"name":"z","origin":'
        '"s3://aws/b/z","size_bytes":3,"version":"v"}],"format":1,"source":"s3://b"}'
    )

    manifest = from_json(written)

    assert written == manifest.to_json()
    assert "63abcdc7" == manifest.snapshot_id[:8]
    assert {1: b"", 16: b"a.json", 17: b"d", 18: b"e", 19: b"f", 20: b"z"} == {
        inode: node.name for inode, node in manifest.nodes().items()
    }


def test_origins_that_name_their_scheme_have_formats_that_older_versions_refuse():
    """They would ask for other keys: they cut as many characters off an origin as their own has."""
    flat = build("s3://b", [BlobRef("a", "s3+aws://aws/b#a", "v", 1)])
    part = Part("s3://b", "m/snapshots/1")
    blobs = [BlobRef(f"{part.directory}/a", "hf+https://h#models/o/m#a", "v", 1)]
    several = arranged(build("s3://b", blobs), (part,), ())

    assert [3, 4] == [json.loads(one.to_json())["format"] for one in (flat, several)]
    assert [flat, several] == [from_json(one.to_json()) for one in (flat, several)]
    for number in (1, 2, 4, 5, True):
        with pytest.raises(BadManifest):
            from_json(json.dumps(json.loads(flat.to_json()) | {"format": number}))


@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"format":1,"source":"s","blobs":[' + b"9" * 5000 + b"]}")
def test_no_bytes_raise_anything_but_bad_manifest(text):
    try:
        from_json(text)
    except BadManifest:
        pass


def test_a_revision_is_kept_and_is_part_of_the_snapshot_not_of_the_blob():
    plain = BlobRef("a", "hf://h/models/o/m/a", "oid", 1)
    there = BlobRef("a", "hf://h/models/o/m/a", "oid", 1, revision="abc")
    manifest = build("hf://o/m", [there])

    assert manifest == from_json(manifest.to_json())
    assert manifest.snapshot_id != build("hf://o/m", [plain]).snapshot_id
    assert plain.store_key == there.store_key
    assert "revision" not in build("hf://o/m", [plain]).to_json()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = {
    "name": st.text(max_size=20) | st.sampled_from(["a", "a/b", "../a", ".lazyfs/x"]),
    "origin": st.text(max_size=8),
    "version": st.text(max_size=8),
    "size_bytes": st.integers(),
    "digest": st.none() | st.text(max_size=8) | st.just("sha256:" + "0f" * 32),
    "modified_ns": st.integers(-(2**64), 2**64),
}
entries = st.fixed_dictionaries(
    {name: values | anything for name, values in fields.items()}
) | st.fixed_dictionaries(fields)


@given(st.lists(entries, max_size=4), st.text(max_size=8) | anything)
def test_a_document_is_a_snapshot_that_can_be_mounted_or_refused(blobs, source):
    """Whatever a file of the cache has become: what is taken for a manifest is one in every respect."""
    try:
        manifest = from_json(json.dumps({"format": 1, "source": source, "blobs": blobs}))
    except BadManifest:
        return

    assert manifest == from_json(manifest.to_json())
    assert len(manifest.blobs) == len(blobs) == sum(n.blob is not None for n in manifest.nodes().values())
    for blob in manifest.blobs:
        assert refusal(blob.name) is None
        assert 0 <= blob.size_bytes < 2**63
        assert abs(blob.modified_ns) < 2**63
        assert 64 == len(bytes.fromhex(blob.store_key)) * 2
