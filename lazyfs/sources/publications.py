"""What a source makes of the `lazyfs.json` it finds beside the files it lists (docs/publishing.md)."""

import logging
from collections.abc import Callable, Sequence

from lazyfs.core.blob import BlobRef
from lazyfs.core.publication import FILE_NAME, Published, Unmet, parse, with_digests
from lazyfs.errors import LazyfsError, UnfinishedPublication

log = logging.getLogger(__name__)


def apart(listed: Sequence[BlobRef]) -> tuple[BlobRef | None, list[BlobRef]]:
    """Return the `lazyfs.json` among what was listed, and everything else: it is not shown in a mount."""
    found = next((blob for blob in listed if blob.name == FILE_NAME), None)
    return found, [blob for blob in listed if blob.name != FILE_NAME]


def with_publication(
    blobs: list[BlobRef],
    read: Callable[[], bytes],
    same: Callable[[Published, BlobRef], bool | None],
) -> tuple[list[BlobRef], Unmet]:
    """Give `blobs` the digests that the publication `read` returns has for them; say where it does not fit.

    It never keeps anybody from mounting: what cannot be used of it is logged, and the listing counts.
    """
    try:
        publication = parse(read())
    except UnfinishedPublication as error:
        log.warning("publication_unfinished error=%r", str(error))
        return blobs, Unmet(unfinished=str(error))
    except LazyfsError as error:
        log.warning("publication_unusable error=%r", str(error))
        return blobs, Unmet()
    found, stale = with_digests(publication, blobs, same)
    if stale:
        log.warning("publication_stale files=%d first=%r", len(stale), stale[0])
    return found, Unmet(tuple(stale))
