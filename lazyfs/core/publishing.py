"""What publishing has to do: which files are there already, and how that can be known.

An upload that was broken off is gone on with, and a model that was changed is sent in part only. What is at
the destination counts as the local file when the last publication says so, of this version on both sides;
when that says something else of the local file's time, its digest decides; without a word from it, the
destination's own checksum does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lazyfs.core.blob import BlobRef
from lazyfs.core.publication import Publication, Published


class Step(StrEnum):
    """What has to be done for one file."""

    KEEP = "keep"
    """It is there: same size and time as when it was sent, and not replaced there since."""
    COMPARE = "compare"
    """There is one of that size: read the local one, and send it if its digest is another."""
    SEND = "send"


@dataclass(frozen=True, slots=True)
class Task:
    """A local file, and what is known of it at the destination.

    `published` is what was said of what is there (`KEEP`, and `COMPARE` when something was); `held` is what
    is there, when it has the right size.
    """

    file: BlobRef
    step: Step
    published: Published | None = None
    held: BlobRef | None = None


def plan(
    files: Sequence[BlobRef], known: Publication, held: Mapping[str, BlobRef], same: Mapping[str, bool]
) -> list[Task]:
    """Return a task for each local file, in the order given.

    `same` tells by name whether what is held is the version that `known` speaks of.
    """
    claims = {claim.name: claim for claim in known.files if claim.sha256 is not None}
    return [
        _task(file, claims.get(file.name) if same.get(file.name) else None, held.get(file.name))
        for file in files
    ]


def _task(file: BlobRef, claim: Published | None, held: BlobRef | None) -> Task:
    if held is None or held.size_bytes != file.size_bytes:
        return Task(file, Step.SEND)
    if claim is not None and claim.modified_ns == file.modified_ns:
        return Task(file, Step.KEEP, claim, held)
    return Task(file, Step.COMPARE, claim, held)


def left_out(name: str) -> bool:
    """Tell whether a file is no part of a model: hidden, as `.cache/` and `.git/` are, or not complete."""
    return name.endswith(".incomplete") or any(part.startswith(".") for part in name.split("/"))
