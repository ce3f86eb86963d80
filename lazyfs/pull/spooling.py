"""Room for what a server without ranges sends: whole files, which lie beside the blocks while they come."""

from collections.abc import Collection

from lazyfs.core.blob import BlobRef
from lazyfs.errors import LazyfsError
from lazyfs.sources import Source
from lazyfs.telemetry.status import bytes_text
from lazyfs.transport.whole import STREAMS_MOST

_SCHEMES = ("http://", "https://")
"""Where servers without ranges are; everywhere else asking where a file is may cost a request each."""


def spooled_bytes(source: Source, address: str, wanted: Collection[BlobRef]) -> int:
    """Return how much whole files will take while they come, beside what is kept; at most one request.

    One file stands for all: whether there are ranges is a server's, not a file's. So many come at once.
    """
    if not wanted or not address.lower().startswith(_SCHEMES):
        return 0
    sizes = sorted((blob.size_bytes for blob in wanted), reverse=True)
    try:
        location = source.locate(max(wanted, key=lambda blob: blob.size_bytes))
    except LazyfsError:
        return 0  # whoever fetches it will say, and try again if that can help
    return 0 if location.ranges else sum(sizes[:STREAMS_MOST])


def meanwhile(size_bytes: int) -> str:
    """Return what to say of that much, behind what is to come."""
    if not size_bytes:
        return ""
    return f", and {bytes_text(size_bytes)} more meanwhile: the server knows no ranges and sends whole files"
