"""`lazyfs.json`: what a publisher says of the files beside it (docs/publishing.md has the format).

    {"lazyfs": 1, "files": [{"name": "config.json", "size": 512, "sha256": "...", "etag": "..."}]}

`name` and `size` must be there, everything else may. Fields nobody knows are ignored, so that people can add
their own. While `lazyfs publish` is at work there is `sent` instead of `files`: what is there already. It is
no publication to anybody but the next `lazyfs publish`, which goes on from it.

A publication is a claim about files that somebody may have replaced since. What it says of a file counts only
where the source shows that this is still the file it speaks of: see `with_digests`.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from lazyfs.core.blob import BlobRef
from lazyfs.core.duplicates import OTHER_WEIGHTS, WEIGHTS
from lazyfs.core.location import same_etag
from lazyfs.core.manifest import NUMBER_MAX, refusal
from lazyfs.core.plan import natural_key
from lazyfs.errors import BadPublication, UnfinishedPublication

FILE_NAME = "lazyfs.json"
FORMAT = 1
CONTENT_BYTES_MAX = 16 << 20
"""Nobody needs to read a larger one: 16 MiB hold what is said of 60,000 files."""
TENSOR_NAMES_BYTES_MAX = 256 << 10
"""Beyond this much of them the names of tensors are left out: whoever mounts waits for the whole of it."""

NAMES_MAX = 5
"""So many names an error has."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NO_PUBLICATION = (
    f"see docs/publishing.md, or write it with `lazyfs publish`; without a {FILE_NAME} the place works too"
)


@dataclass(frozen=True, slots=True)
class Published:
    """What is said of one file.

    `name` is relative to the publication; `sha256` 64 lower-case hex digits; `etag` the server's, quoted or
    not; `modified_ns` the file's modification time; `tensors` their names as they lie in a safetensors file.
    """

    name: str
    size_bytes: int
    sha256: str | None = None
    etag: str | None = None
    modified_ns: int | None = None
    tensors: tuple[str, ...] | None = None

    @property
    def digest(self) -> str | None:
        """The sha256 as `BlobRef.digest` has it."""
        return None if self.sha256 is None else f"sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Publication:
    """The files, in the order in which they are listed; no name twice, and none that cannot be a file."""

    files: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class Unmet:
    """Where a place is not what the publication in it says: nothing when all is well, or there is none."""

    stale: tuple[str, ...] = ()
    """Names of files of which it says something else than the source shows, or that are gone."""
    unfinished: str = ""
    """Why it is no publication yet."""


def require_met(unmet: Unmet, wanted: Callable[[str], bool]) -> None:
    """Refuse to take a place for complete, and right, that its publication does not fit.

    Raises:
        UnfinishedPublication: while it is being published.
        BadPublication: when files are stale that are `wanted` by their names.

    """
    if unmet.unfinished:
        raise UnfinishedPublication(unmet.unfinished)
    stale = [name for name in unmet.stale if wanted(name)]
    if stale:
        more = f" and {len(stale) - NAMES_MAX} more" if len(stale) > NAMES_MAX else ""
        raise BadPublication(
            f"{', '.join(map(repr, stale[:NAMES_MAX]))}{more}: replaced or removed since {FILE_NAME} was "
            f"published, so nothing tells whether what is there is right",
            f"publish again, or remove {FILE_NAME} to take what is there as it is, or leave the files out "
            "with --exclude",
        )


def parse(content: bytes) -> Publication:
    """Read a `lazyfs.json`.

    Raises:
        UnfinishedPublication: while it is not complete.
        BadPublication: whatever else the bytes are; never another exception.

    """
    document = _document(content)
    if "files" not in document and "sent" in document:
        raise UnfinishedPublication(
            f"{FILE_NAME} says that publishing has not been completed",
            "wait for `lazyfs publish`, or run it again",
        )
    return _publication(document.get("files"))


def parse_unfinished(content: bytes) -> Publication:
    """Read a `lazyfs.json` that may not be complete yet: what is known to have been sent.

    Raises:
        BadPublication: see `parse`.

    """
    document = _document(content)
    return _publication(document.get("files", document.get("sent")))


def _document(content: bytes) -> dict[str, Any]:
    if len(content) > CONTENT_BYTES_MAX:
        raise BadPublication(f"{FILE_NAME} is larger than {CONTENT_BYTES_MAX} bytes", _NO_PUBLICATION)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadPublication(f"{FILE_NAME} is not JSON: {error}", _NO_PUBLICATION) from None
    if not isinstance(document, dict) or type(document.get("lazyfs")) is not int or document["lazyfs"] < 1:
        raise BadPublication(f'{FILE_NAME} does not say "lazyfs": {FORMAT}', _NO_PUBLICATION)
    if document["lazyfs"] > FORMAT:
        raise BadPublication(
            f"{FILE_NAME} is of format {document['lazyfs']}, this lazyfs knows {FORMAT}",
            "install a newer lazyfs",
        )
    return document


def _publication(entries: Any) -> Publication:
    if not isinstance(entries, list):
        raise BadPublication(f"{FILE_NAME} has no list of files", _NO_PUBLICATION)
    files = [_published(entry) for entry in entries]
    seen: set[str] = set()
    for file in files:
        if file.name in seen:
            raise BadPublication(f"{FILE_NAME} lists {file.name!r} twice", "name every file once")
        seen.add(file.name)
    # Whoever lists the files of a directory with the shell has this one among them.
    return Publication(tuple(file for file in files if file.name != FILE_NAME))


def _published(entry: Any) -> Published:
    if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
        raise BadPublication(f"{FILE_NAME} has a file without a name", _NO_PUBLICATION)
    reason = refusal(name)
    if reason is not None:
        raise BadPublication(
            f"{FILE_NAME} names {name!r}: {reason}", "names are relative, like original/params.json"
        )
    if (size_bytes := _number(name, entry, "size", 0)) is None:
        raise _wrong(name, "size")
    return Published(
        name,
        size_bytes,
        _sha256(name, entry),
        _text(name, entry, "etag"),
        _number(name, entry, "modified_ns", -NUMBER_MAX),
        _tensors(name, entry),
    )


def _wrong(name: str, field: str) -> BadPublication:
    return BadPublication(f"{FILE_NAME} has no proper {field} of {name!r}", _NO_PUBLICATION)


def _number(name: str, entry: dict[str, Any], field: str, least: int) -> int | None:
    value = entry.get(field)
    # bool is an int to isinstance, and not to us
    if value is not None and (type(value) is not int or not least <= value <= NUMBER_MAX):
        raise _wrong(name, field)
    return value


def _text(name: str, entry: dict[str, Any], field: str) -> str | None:
    value = entry.get(field)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, field)
    return value


def _sha256(name: str, entry: dict[str, Any]) -> str | None:
    value = _text(name, entry, "sha256")
    if value is not None and _SHA256.fullmatch(value) is None:
        raise _wrong(name, "sha256")
    return None if value is None else value.lower()


def _tensors(name: str, entry: dict[str, Any]) -> tuple[str, ...] | None:
    value = entry.get("tensors")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(tensor, str) for tensor in value):
        raise _wrong(name, "tensors")
    return tuple(value)


def encode(publication: Publication, *, complete: bool = True) -> bytes:
    """Return the `lazyfs.json` of a publication, a line a file, in the order in which an engine reads them.

    One that is not `complete` is for the next `lazyfs publish` only.
    """
    files = sorted(publication.files, key=lambda file: reading_order(file.name))
    names_bytes = sum(len(name) + 3 for file in files for name in file.tensors or ())
    if names_bytes > TENSOR_NAMES_BYTES_MAX:
        files = [replace(file, tensors=None) for file in files]
    lines = ",\n".join("  " + json.dumps(_entry(file)) for file in files)
    field = "files" if complete else "sent"
    return f'{{"lazyfs": {FORMAT}, "{field}": [\n{lines}\n]}}\n'.encode("ascii")


def _entry(file: Published) -> dict[str, Any]:
    entry = {
        "name": file.name,
        "size": file.size_bytes,
        "sha256": file.sha256,
        "etag": file.etag,
        "modified_ns": file.modified_ns,
        "tensors": file.tensors,
    }
    return {field: value for field, value in entry.items() if value is not None}


def reading_order(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """Sort key: what an engine reads before any weight, then safetensors by shard, then other formats."""
    if name.endswith(WEIGHTS):
        group = 1
    else:
        group = 2 if name.endswith(OTHER_WEIGHTS) or name.startswith("original/") else 0
    return group, natural_key(name)


def with_digests(
    publication: Publication,
    blobs: Iterable[BlobRef],
    same: Callable[[Published, BlobRef], bool | None],
) -> tuple[list[BlobRef], list[str]]:
    """Give the blobs that the publication still speaks of their digest.

    `same` tells whether a blob is the version that a claim is about, None when the claim does not say.
    Returns all blobs, and the names of which it says something else than the source shows, or that are gone.
    """
    claims = {file.name: file for file in publication.files}
    found: list[BlobRef] = []
    stale: list[str] = []
    for blob in blobs:
        claim = claims.pop(blob.name, None)
        answer = None if claim is None else claim.size_bytes == blob.size_bytes and same(claim, blob)
        found.append(replace(blob, digest=claim.digest) if claim is not None and answer else blob)
        if answer is False:
            stale.append(blob.name)
    return found, stale + sorted(claims)


def same_object(claim: Published, etag: str) -> bool | None:
    """Tell whether an object with this ETag is the one the claim is about; None when it does not say."""
    return None if claim.etag is None else same_etag(claim.etag, etag)


def same_file(claim: Published, modified_ns: int) -> bool | None:
    """Tell whether a file of this modification time is the one the claim is about; None as above."""
    return None if claim.modified_ns is None else claim.modified_ns == modified_ns
