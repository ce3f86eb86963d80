"""The directory tree the kernel sees: a function of names alone, so every process shows the same inodes.

Besides blobs a tree may hold *extras*: small files whose text is known, symbolic links, and further names
of a blob (hard links). Blobs are numbered first, so that a tree without extras is numbered as it always was.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lazyfs.core.blob import BlobRef

ROOT_INODE = 1
FIRST_INODE = 16
"""Lower numbers are the root and the mount's own files (`fuse.attributes`)."""


class Kind(StrEnum):
    """What an extra is, and so what its content says."""

    FILE = "file"
    """A small file: its text."""
    LINK = "link"
    """A symbolic link: where it leads. It can be followed, and is not listed."""
    ALIAS = "alias"
    """Another name of a blob: that blob's name."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A name in the tree that is no blob of its own."""

    name: str
    kind: Kind
    content: str


@dataclass(frozen=True, slots=True)
class Node:
    """A file (with its blob, or the text it has), a symbolic link (with its target), or a directory."""

    inode: int
    name: bytes
    parent: int
    blob: BlobRef | None
    children: dict[bytes, int] = field(default_factory=dict)
    text: bytes | None = None
    target: bytes | None = None
    names: int = 1
    """How many names it has; `name` and `parent` are the first."""

    @property
    def is_file(self) -> bool:
        """Whether it can be read."""
        return self.blob is not None or self.text is not None

    @property
    def is_directory(self) -> bool:
        """Whether it can be listed."""
        return not self.is_file and self.target is None


def grow(blobs: Iterable[BlobRef], extras: Iterable[Extra] = ()) -> dict[int, Node]:
    """Return the tree of names that do not clash, by inode number: the root is 1.

    Children are in the order in which `blobs`, and then `extras`, come.
    """
    nodes = {ROOT_INODE: Node(ROOT_INODE, b"", ROOT_INODE, None)}
    inodes: dict[str, int] = {}
    for blob in blobs:
        parent, name = _place(nodes, blob.name)
        inodes[blob.name] = _add(nodes, parent, name, blob)
    for extra in extras:
        parent, name = _place(nodes, extra.name)
        content = encode_name(extra.content)
        if extra.kind is Kind.FILE:
            _add(nodes, parent, name, text=content)
        elif extra.kind is Kind.LINK:
            _add(nodes, parent, name, target=content)
        else:
            inode = parent.children[name] = inodes[extra.content]
            nodes[inode] = replace(nodes[inode], names=nodes[inode].names + 1)
    return nodes


def _place(nodes: dict[int, Node], path: str) -> tuple[Node, bytes]:
    """Return the directory of a path, made where it is missing, and the last component."""
    *directories, last = encode_name(path).split(b"/")
    parent = nodes[ROOT_INODE]
    for name in directories:
        inode = parent.children.get(name)
        parent = nodes[_add(nodes, parent, name) if inode is None else inode]
    return parent, last


def _add(
    nodes: dict[int, Node],
    parent: Node,
    name: bytes,
    blob: BlobRef | None = None,
    *,
    text: bytes | None = None,
    target: bytes | None = None,
) -> int:
    inode = FIRST_INODE + len(nodes) - 1
    nodes[inode] = Node(inode, name, parent.inode, blob, text=text, target=target)
    parent.children[name] = inode
    return inode


def encode_name(name: str) -> bytes:
    """Return the bytes the kernel sees; a local file's undecodable bytes come back as they were.

    Raises:
        UnicodeEncodeError: for lone surrogates that no file name can have.

    """
    return name.encode("utf-8", "surrogateescape")
