import pytest

from lazyfs.core.blob import BlobRef
from lazyfs.core.tree import FIRST_INODE, ROOT_INODE, Extra, Kind, grow


def blob(name, size=1):
    return BlobRef(name, f"s3://aws/b/{name}", "v", size)


def path(nodes, node):
    return b"" if node.inode == ROOT_INODE else path(nodes, nodes[node.parent]) + b"/" + node.name


EXTRAS = (
    Extra("refs/main", Kind.FILE, "c0ffee"),
    Extra("hub", Kind.LINK, "."),
    Extra("other/b", Kind.ALIAS, "a/b"),
    Extra("third", Kind.ALIAS, "a/b"),
)


def test_extras_leave_the_numbers_of_everything_else_alone():
    blobs = [blob("a/b"), blob("a/c"), blob("d")]

    alone, together = grow(blobs), grow(blobs, EXTRAS)

    for inode, node in alone.items():
        assert (node.name, node.parent, node.blob) == (
            together[inode].name, together[inode].parent, together[inode].blob,
        )  # fmt: skip
    assert FIRST_INODE == min(inode for inode in together if inode != ROOT_INODE)


def test_a_small_file_has_its_text_and_a_link_its_target():
    nodes = grow([blob("a/b")], EXTRAS)

    (file,) = (node for node in nodes.values() if node.text is not None)
    (link,) = (node for node in nodes.values() if node.target is not None)
    assert (b"/refs/main", b"c0ffee", b"/hub", b".") == (
        path(nodes, file), file.text, path(nodes, link), link.target,
    )  # fmt: skip


def test_another_name_of_a_blob_is_the_same_inode_and_is_counted():
    nodes = grow([blob("a/b")], EXTRAS)

    (node,) = (node for node in nodes.values() if node.blob is not None)
    root = nodes[ROOT_INODE]
    other = nodes[root.children[b"other"]].children[b"b"]
    assert node.inode == other == root.children[b"third"]
    assert (b"/a/b", 3) == (path(nodes, node), node.names)


@pytest.mark.parametrize(
    ("name", "is_file", "is_directory"),
    [("a", False, True), ("hub", False, False), ("third", True, False)],
)
def test_a_node_is_a_file_a_directory_or_neither(name, is_file, is_directory):
    nodes = grow([blob("a/b")], EXTRAS)

    node = nodes[nodes[ROOT_INODE].children[name.encode()]]
    assert (is_file, is_directory) == (node.is_file, node.is_directory)


def test_a_small_file_is_a_file_also_when_it_is_empty():
    (node,) = (node for node in grow([], [Extra("a", Kind.FILE, "")]).values() if node.inode != ROOT_INODE)

    assert node.is_file
    assert not node.is_directory
