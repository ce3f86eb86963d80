"""The manifest: which blobs a mount shows, under which names and inode numbers.

A mount is a pinned snapshot. The manifest is its list of blobs, sorted; everything the kernel sees of the
directory tree is a function of that list, so a restarted process shows the very same inodes.

**The rule for names.** A source may hold keys that cannot be files. A name is refused (left out, with a
warning that says why) when it, split at `/`,

* has an empty component (so also when it is empty, absolute, or ends in `/`), or one that is `.` or `..`;
* has a component over 255 bytes in UTF-8, or is over 4,095 bytes in all;
* holds a NUL, or cannot be encoded;
* lies below `.lazyfs`, which is ours;
* is also a directory of another name (`a` beside `a/b`), or was listed before.

Nothing is renamed, and one refused name never hides another.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from lazyfs.core.blob import BlobRef
from lazyfs.errors import BadManifest

ROOT_INODE = 1
FIRST_INODE = 16
"""Lower numbers are the root and the mount's own files (`fuse.attributes`)."""

RESERVED_NAME = ".lazyfs"
STATUS_NAME = "status.json"
"""What lies below the reserved name."""
COMPONENT_BYTES_MAX = 255
NAME_BYTES_MAX = 4095
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A name the source holds and the mount does not show, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Node:
    """A file (with its blob) or a directory (without) of the mounted tree."""

    inode: int
    name: bytes
    parent: int
    blob: BlobRef | None
    children: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A pinned snapshot: where it came from and its blobs, sorted by name. Build with `build`."""

    source: str
    blobs: tuple[BlobRef, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs together."""
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def snapshot_id(self) -> str:
        """64 hex digits that are the same exactly when source and blobs are."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the manifest as JSON; `from_json` gives it back."""
        return self._canonical()

    def _canonical(self) -> str:
        blobs = [asdict(blob) for blob in self.blobs]
        document = {"format": FORMAT, "source": self.source, "blobs": blobs}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def nodes(self) -> dict[int, Node]:
        """Return the directory tree by inode number: the root is 1, children are in sorted order."""
        root = Node(ROOT_INODE, b"", ROOT_INODE, None)
        nodes = {ROOT_INODE: root}
        for blob in self.blobs:
            *directories, last = encode_name(blob.name).split(b"/")
            parent = root
            for name in directories:
                parent = _child(nodes, parent, name, None)
            _child(nodes, parent, last, blob)
        return nodes


def _child(nodes: dict[int, Node], parent: Node, name: bytes, blob: BlobRef | None) -> Node:
    """Return the child of `parent` called `name`, made if it is new."""
    inode = parent.children.get(name)
    if inode is None:
        inode = FIRST_INODE + len(nodes) - 1
        nodes[inode] = Node(inode, name, parent.inode, blob)
        parent.children[name] = inode
    return nodes[inode]


def build(
    source: str,
    blobs: Iterable[BlobRef],
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> Manifest:
    """Sort `blobs`, leave out what the patterns or the rule for names leave out.

    A pattern without `/` is matched against the last component too, so `*.bin` means every such file.
    """
    wanted = [blob for blob in blobs if _selected(blob.name, include, exclude)]
    good: list[BlobRef] = []
    refused: list[Refusal] = []
    for blob in wanted:
        reason = refusal(blob.name)
        if reason is None:
            good.append(blob)
        else:
            refused.append(Refusal(blob.name, reason))
    good.sort(key=lambda blob: (encode_name(blob.name), blob.version))
    kept = tuple(_without_clashes(good, refused))
    return Manifest(source, kept, tuple(refused))


def _without_clashes(blobs: list[BlobRef], refused: list[Refusal]) -> Iterator[BlobRef]:
    """Yield the blobs whose name is neither listed before nor a directory of another."""
    directories = {parent for blob in blobs for parent in _parents(blob.name)}
    seen: set[str] = set()
    for blob in blobs:
        if blob.name in directories:
            refused.append(Refusal(blob.name, "there is also a directory of that name"))
        elif blob.name in seen:
            refused.append(Refusal(blob.name, "listed twice"))
        else:
            seen.add(blob.name)
            yield blob


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _selected(name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    def matches(pattern: str) -> bool:
        last = name.rpartition("/")[2]
        return fnmatchcase(name, pattern) or ("/" not in pattern and fnmatchcase(last, pattern))

    wanted = not include or any(matches(pattern) for pattern in include)
    return wanted and not any(matches(pattern) for pattern in exclude)


def encode_name(name: str) -> bytes:
    """Return the bytes the kernel sees; a local file's undecodable bytes come back as they were.

    Raises:
        UnicodeEncodeError: for lone surrogates that no file name can have.

    """
    return name.encode("utf-8", "surrogateescape")


def refusal(name: str) -> str | None:
    """Return why `name` cannot be shown, or None when it can (the rule is this module's docstring)."""
    try:
        encoded = encode_name(name)
    except UnicodeEncodeError:
        return "cannot be encoded as UTF-8"
    if b"\0" in encoded:
        return "holds a NUL"
    if len(encoded) > NAME_BYTES_MAX:
        return f"longer than {NAME_BYTES_MAX} bytes"
    first, *_ = components = encoded.split(b"/")
    if first == RESERVED_NAME.encode():
        return f"{RESERVED_NAME} is lazyfs' own"
    return next(filter(None, map(_fault, components)), None)


def _fault(component: bytes) -> str | None:
    if component in {b"", b".", b".."}:
        return f"has a component {component.decode()!r}"
    if len(component) > COMPONENT_BYTES_MAX:
        return f"has a component longer than {COMPONENT_BYTES_MAX} bytes"
    return None


def from_json(text: str | bytes) -> Manifest:
    """Read back what `to_json` wrote.

    Raises:
        BadManifest: whatever else the text is; never another exception.

    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadManifest(f"not a manifest of format {FORMAT}")
    source, entries = document.get("source"), document.get("blobs")
    if not isinstance(source, str) or not isinstance(entries, list):
        raise BadManifest("source or blobs missing")
    manifest = build(source, [_blob(entry) for entry in entries])
    if manifest.refused:
        raise BadManifest(f"name {manifest.refused[0].name!r}: {manifest.refused[0].reason}")
    return manifest


_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "origin": (str,),
    "version": (str,),
    "size_bytes": (int,),
    "digest": (str, type(None)),
    "modified_ns": (int,),
}


def _blob(entry: Any) -> BlobRef:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS.keys():
        raise BadManifest(f"a blob has the fields {', '.join(_FIELDS)}")
    for name, types in _FIELDS.items():
        # bool is an int to isinstance, and not to us
        if type(entry[name]) not in types:
            raise BadManifest(f"field {name} is a {type(entry[name]).__name__}")
    if entry["size_bytes"] < 0:
        raise BadManifest("a size is negative")
    return BlobRef(**entry)
