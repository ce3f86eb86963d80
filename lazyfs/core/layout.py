"""What a mount looks like: the files of one source (`flat`), or a cache of the Hugging Face Hub (`hf-cache`).

**hf-cache** is what huggingface_hub keeps below `HF_HOME/hub` (its docs, "Understand caching"), of one
snapshot of each model; a client that is offline needs nothing else::

    models--org--name/refs/<revision>            the commit, without a line feed
                      snapshots/<commit>/<file>  the files
                      blobs/<etag>               the same files: hard links, for symbolic ones
    hub                                          leads back here, for HF_HOME is often set to the mount

`<etag>` is the sha256 the publisher states, else the git blob id, else the key in our own store. A file that
two revisions share is one file under several names. What only has the same digest is not: who writes one
model's digests could pass its bytes off as another's; such blobs meet in the store, when they are verified.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import Manifest, Part, arranged, build, refusal
from lazyfs.core.tree import Extra, Kind
from lazyfs.errors import BadManifest, UsageError

HUB = "hub"
COMMIT_DIGITS = 40
_NAMED = re.compile(
    r"(?:(?P<kind>model|dataset|space)s/)?(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^=@]+))?"
    r"=(?P<address>[A-Za-z0-9+.-]+://.*)",
    re.ASCII | re.DOTALL,
)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


class Layout(StrEnum):
    """How a mount is laid out."""

    FLAT = "flat"
    HF_CACHE = "hf-cache"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as a source has pinned it."""

    name: str
    """`org/name`."""
    commit: str
    """What its files are pinned to: 40 hexadecimal digits."""
    revision: str = "main"
    """What was asked for: a branch, a tag, a commit."""
    kind: str = "model"
    """`model`, `dataset` or `space`."""
    directory: str = ""
    """Where in the repository the source begins, if not at its top."""

    @property
    def folder(self) -> str:
        """Its directory in the cache."""
        return "--".join([f"{self.kind}s", *self.name.split("/")])

    @property
    def snapshot(self) -> str:
        """The directory of the source's files in the cache."""
        inside = f"/{self.directory}" if self.directory else ""
        return f"{self.folder}/snapshots/{self.commit}{inside}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A source as it is typed: an address, and before it the model it is to be, like `org/name@v1=s3://b/m`."""

    text: str
    address: str
    name: str | None = None
    revision: str | None = None
    kind: str = "model"

    def repository(self, own: Repository | None, snapshot_id: str) -> Repository:
        """Return the repository it is shown as; `own` is what the source itself knows.

        A source that knows of no commits is pinned all the same: its snapshot's id stands for one.

        Raises:
            UsageError: when nobody says which model it is.

        """
        if self.name is None:
            if own is None:
                raise UsageError(
                    f"{self.address} does not say which model it is",
                    f"with --layout hf-cache write it like org/name={self.address}",
                )
            return own
        own = own or Repository(self.name, snapshot_id[:COMMIT_DIGITS])
        return replace(own, name=self.name, revision=self.revision or own.revision, kind=self.kind)


def asked(text: str) -> Asked:
    """Read a source as it is typed."""
    found = _NAMED.fullmatch(text)
    if found is None:
        return Asked(text, text)
    return Asked(text, found["address"], found["name"], found["revision"], found["kind"] or "model")


def refuse_several(sources: Sequence[str], layout: Layout) -> None:
    """Refuse what the flat layout cannot show.

    Raises:
        UsageError: for several sources, or one that is given a name.

    """
    if layout is Layout.FLAT and len(sources) > 1:
        raise UsageError(
            f"{len(sources)} sources for one mount", "several models in one mount need --layout hf-cache"
        )
    if layout is Layout.FLAT and asked(sources[0]).name is not None:
        raise UsageError(
            f"{sources[0]} names a model, and this mount shows none by name",
            "leave the name out, or mount with --layout hf-cache",
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """One source of a mount: its repository, and what it holds, by the names it gives."""

    repository: Repository
    manifest: Manifest


def arrange(listed: Sequence[Listed]) -> Manifest:
    """Return the manifest of a mount laid out as a cache of the Hub.

    Raises:
        UsageError: when two sources say that one revision is two commits, or a name fits nowhere.

    """
    parts, blobs, aliases = [], [], {}
    names: set[str] = set()
    first_names: dict[tuple[str, str, int], str] = {}
    for one in listed:
        directory = one.repository.snapshot
        parts.append(Part(one.manifest.source, directory))
        for blob in one.manifest.blobs:
            name = f"{directory}/{blob.name}"
            if name in names:  # two revisions that are the same commit
                continue
            names.add(name)
            same = (blob.origin, blob.version, blob.size_bytes)
            first = name if refusal(name) else first_names.setdefault(same, name)
            if first == name:
                blobs.append(replace(blob, name=name))
            else:
                aliases[name] = first
            aliases.setdefault(f"{one.repository.folder}/blobs/{_etag(blob)}", first)
    extras = [Extra(name, Kind.ALIAS, first) for name, first in sorted(aliases.items())]
    manifest = build(" ".join(one.manifest.source for one in listed), blobs)
    refused = tuple(refusal for one in listed for refusal in one.manifest.refused) + manifest.refused
    shown = {blob.name for blob in manifest.blobs}
    extras = [extra for extra in extras if extra.content in shown]
    extras += [*_refs(listed), Extra(HUB, Kind.LINK, ".")]
    try:
        return arranged(replace(manifest, refused=refused), tuple(dict.fromkeys(parts)), tuple(extras))
    except BadManifest as error:
        raise UsageError(error.cause, "choose another revision, or mount it by itself") from None


def _etag(blob: BlobRef) -> str:
    """Return what the Hub names the blob by."""
    if blob.digest is None and _COMMIT.fullmatch(blob.version):
        return blob.version
    return blob.store_key


def _refs(listed: Sequence[Listed]) -> list[Extra]:
    """Return the files that say which commit a revision is. A commit needs none."""
    commits: dict[str, tuple[str, str]] = {}
    for one in listed:
        repository, source = one.repository, one.manifest.source
        if repository.revision == repository.commit:
            continue
        name = f"{repository.folder}/refs/{repository.revision}"
        commit, other = commits.setdefault(name, (repository.commit, source))
        if commit != repository.commit:
            raise UsageError(
                f"{other} and {source} are both {repository.name}@{repository.revision}, and not the same",
                "give one of them another name or revision, like org/name@revision=ADDRESS",
            )
    return [Extra(name, Kind.FILE, commit) for name, (commit, _) in sorted(commits.items())]


def in_order(blobs: dict[int, BlobRef], parts: Sequence[Part]) -> list[dict[int, BlobRef]]:
    """Return the blobs of each part, by the names their source gives them, in the order of the parts.

    A part whose directory lies in another's has its own; without parts, all blobs are one.
    """
    if not parts:
        return [blobs]
    found: dict[str, dict[int, BlobRef]] = {part.directory: {} for part in parts}
    for inode, blob in blobs.items():
        part = part_of(blob.name, parts)
        found[part.directory][inode] = part.called(blob)
    return list(found.values())


def part_of(name: str, parts: Sequence[Part]) -> Part:
    """Return the part a name belongs to: the one with the longest directory above it."""
    above = [part for part in parts if name.startswith(f"{part.directory}/")]
    return max(above, key=lambda part: len(part.directory))
