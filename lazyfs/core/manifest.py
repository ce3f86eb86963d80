"""The manifest: which blobs a mount shows, under which names.

A mount is a pinned snapshot. The manifest is its list of blobs, sorted; everything the kernel sees of the
directory tree is a function of that list (`tree`), so a restarted process shows the very same inodes. A
manifest that was arranged (`layout`) holds extras too, and says which source each part of it came from.

**Formats.** What is not arranged is written as format 1, as ever: every version can read it, and the id of
the snapshot stays. An arranged manifest is format 2. Where an origin names its scheme before `+`
(`core/origin.py`), they are 3 and 4: a version that does not know a format refuses it, and would ask for
other objects if it did not.

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
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from lazyfs.core.blob import BlobRef
from lazyfs.core.origin import names_scheme
from lazyfs.core.reserved import RESERVED_NAME
from lazyfs.core.tree import Extra, Kind, Node, encode_name, grow
from lazyfs.errors import BadManifest

COMPONENT_BYTES_MAX = 255
NAME_BYTES_MAX = 4095
FORMAT, FORMAT_ARRANGED = 1, 2
SCHEMED = 2
"""What is added to a format where an origin names its scheme."""
NUMBER_MAX = 2**63 - 1
"""The largest size and time a file system can tell."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
"""It becomes a path in the cache (`BlobRef.store_key`)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A name the source holds and the mount does not show, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """What came from one source of several: the blobs below `directory`, where the source calls them less."""

    source: str
    directory: str

    def called(self, blob: BlobRef) -> BlobRef:
        """Return a blob of this part by the name its source gives it."""
        return replace(blob, name=blob.name[len(self.directory) + 1 :])


@dataclass(frozen=True, slots=True)
class Manifest:
    """A pinned snapshot: where it came from and its blobs, sorted by name. Build with `build`."""

    source: str
    blobs: tuple[BlobRef, ...]
    refused: tuple[Refusal, ...] = ()
    parts: tuple[Part, ...] = ()
    """None unless it was arranged: then all blobs are the one source's, by the names it gives them."""
    extras: tuple[Extra, ...] = ()

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
        blobs = [_entry(blob) for blob in self.blobs]
        number = _format(self.blobs, arranged=bool(self.parts))
        document: dict[str, Any] = {"format": number, "source": self.source, "blobs": blobs}
        if self.parts:
            document["parts"] = [asdict(part) for part in self.parts]
            document["extras"] = [asdict(extra) for extra in self.extras]
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def nodes(self) -> dict[int, Node]:
        """Return the directory tree by inode number."""
        return grow(self.blobs, self.extras)


def _format(blobs: Iterable[BlobRef], *, arranged: bool) -> int:
    """Return the format of a manifest; see the module's docstring."""
    schemed = any(names_scheme(blob.origin) for blob in blobs)
    return (FORMAT_ARRANGED if arranged else FORMAT) + (SCHEMED if schemed else 0)


def _entry(blob: BlobRef) -> dict[str, Any]:
    """Return a blob as a manifest holds it: without what it has not, so that older ids stay as they are."""
    return {name: value for name, value in asdict(blob).items() if name not in _OPTIONAL or value is not None}


def build(
    source: str,
    blobs: Iterable[BlobRef],
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> Manifest:
    """Sort `blobs`, leave out what the patterns or the rule for names leave out.

    A pattern without `/` is matched against the last component too, so `*.bin` means every such file.
    """
    wanted = [blob for blob in blobs if selected(blob.name, include, exclude)]
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


def selected(name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Tell whether the patterns leave a name in; see `build`."""

    def matches(pattern: str) -> bool:
        last = name.rpartition("/")[2]
        return fnmatchcase(name, pattern) or ("/" not in pattern and fnmatchcase(last, pattern))

    wanted = not include or any(matches(pattern) for pattern in include)
    return wanted and not any(matches(pattern) for pattern in exclude)


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
    if not isinstance(document, dict):
        raise BadManifest("not a manifest")
    source, entries = document.get("source"), document.get("blobs")
    if not isinstance(source, str) or not isinstance(entries, list):
        raise BadManifest("source or blobs missing")
    manifest = build(source, [_blob(entry) for entry in entries])
    formats = {_format(manifest.blobs, arranged=yes): yes for yes in (False, True)}
    if type(document.get("format")) is not int or document["format"] not in formats:
        raise BadManifest(f"its format is none of {', '.join(map(str, formats))}")
    if manifest.refused:
        raise BadManifest(f"name {manifest.refused[0].name!r}: {manifest.refused[0].reason}")
    if not formats[document["format"]]:
        return manifest
    parts = tuple(Part(**entry) for entry in _texts(document.get("parts"), ("source", "directory")))
    extras = tuple(_extra(entry) for entry in _texts(document.get("extras"), ("name", "kind", "content")))
    if not parts:
        raise BadManifest("there are no parts")
    return arranged(manifest, parts, extras)


def arranged(manifest: Manifest, parts: tuple[Part, ...], extras: tuple[Extra, ...]) -> Manifest:
    """Return the manifest with these parts and extras.

    Raises:
        BadManifest: when a name cannot be shown beside the others, or is one of nothing.

    """
    blobs, of_parts = {blob.name for blob in manifest.blobs}, {part.directory for part in parts}
    for name in blobs:
        if not of_parts & set(_parents(name)):
            raise BadManifest(f"name {name!r}: is of no part")
    files, directories = set(blobs), {parent for name in blobs for parent in _parents(name)}
    for extra in extras:
        reason = refusal(extra.name)
        above = set(_parents(extra.name))
        if reason is None and (extra.name in files | directories or above & files):
            reason = "is there already"
        if reason is None and extra.kind is Kind.ALIAS and extra.content not in blobs:
            reason = "is a name of nothing"
        if reason is not None:
            raise BadManifest(f"name {extra.name!r}: {reason}")
        files.add(extra.name)
        directories |= above
    return Manifest(manifest.source, manifest.blobs, manifest.refused, parts, extras)


def _texts(entries: Any, names: tuple[str, ...]) -> list[dict[str, str]]:
    """Return entries that have exactly these fields, all of them texts that can be encoded."""
    if not isinstance(entries, list):
        raise BadManifest("parts or extras missing")
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != set(names):
            raise BadManifest(f"there must be the fields {', '.join(names)}")
        for text in entry.values():
            if not isinstance(text, str):
                raise BadManifest("a part or extra holds what is no text")
            try:
                encode_name(text)
            except UnicodeEncodeError:
                raise BadManifest("a text cannot be encoded as UTF-8") from None
    return entries


def _extra(entry: dict[str, str]) -> Extra:
    if entry["kind"] not in tuple(Kind):
        raise BadManifest(f"there is no kind {entry['kind']!r}")
    if entry["kind"] == Kind.LINK and (not entry["content"] or "\0" in entry["content"]):
        raise BadManifest("a link leads nowhere")
    return Extra(entry["name"], Kind(entry["kind"]), entry["content"])


_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "origin": (str,),
    "version": (str,),
    "size_bytes": (int,),
    "digest": (str, type(None)),
    "modified_ns": (int,),
    "revision": (str,),
}
_OPTIONAL = {"revision"}


def _blob(entry: Any) -> BlobRef:
    if not isinstance(entry, dict) or entry.keys() | _OPTIONAL != _FIELDS.keys():
        raise BadManifest(f"a blob has the fields {', '.join(_FIELDS)}")
    for name, types in _FIELDS.items():
        # bool is an int to isinstance, and not to us
        if name in entry and type(entry[name]) not in types:
            raise BadManifest(f"field {name} is a {type(entry[name]).__name__}")
    # A file may well be older than 1970.
    for name, least in (("size_bytes", 0), ("modified_ns", -NUMBER_MAX)):
        if not least <= entry[name] <= NUMBER_MAX:
            raise BadManifest(f"field {name} is out of range")
    if entry["digest"] is not None and _DIGEST.fullmatch(entry["digest"]) is None:
        raise BadManifest("a digest is no sha256")
    return BlobRef(**entry)
