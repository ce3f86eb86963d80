"""The record of files that a pull has put in place: one line of JSON each, the last one of a name counts.

It is how the next pull knows, without reading it, that a file is the version it wants: it has the size, the
modification time and the inode number that the record gives it. The inode number is that of the file before
it was put in place, so the record may be written first: whatever else has the name is another file. A copy of
the directory is other files too, and is looked at (if there are digests) or fetched again.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file as it was put in place, and the version it is (`BlobRef.store_key`)."""

    name: str
    store_key: str
    size_bytes: int
    modified_ns: int
    inode: int

    def encode(self) -> bytes:
        """Return the line."""
        # What is no UTF-8 in a name are half-surrogates: as `\\udc80` they are JSON.
        return json.dumps(asdict(self)).encode() + b"\n"


_KINDS = {"name": str, "store_key": str, "size_bytes": int, "modified_ns": int, "inode": int}


def decode(content: bytes) -> dict[str, Pulled]:
    """Return the records of a file by name; what is no record, a torn line say, is left out."""
    return {record.name: record for record in _decoded(content.split(b"\n"))}


def _decoded(lines: Iterable[bytes]) -> Iterator[Pulled]:
    for line in lines:
        try:
            fields: Any = json.loads(line)
        except ValueError:
            continue
        if not isinstance(fields, dict) or fields.keys() != _KINDS.keys():
            continue
        if all(type(fields[name]) is kind for name, kind in _KINDS.items()):
            yield Pulled(**fields)
