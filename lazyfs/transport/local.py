"""The same as a ranged GET, for a `file:` URL: NFS, a PVC, a directory."""

import os
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit

from lazyfs.core.location import Location, file_version
from lazyfs.errors import AccessDenied, BlobChanged, SourceUnavailable
from lazyfs.transport.connection import PIECE_BYTES
from lazyfs.transport.gate import require_descriptor
from lazyfs.transport.ranges import Receipt, Wanted
from lazyfs.transport.wanted import AGAIN


def fetch(location: Location, wanted: Wanted, into: memoryview, landed: Callable[[int], None]) -> Receipt:
    """Read `wanted` from the file at `location` into `into`, or raise.

    The file's version is compared after reading: a write that had begun before the last byte was read shows.

    Raises:
        BlobChanged: when the file is gone or no longer the pinned version.
        AccessDenied: when it may not be read, or is where no source may be.
        SourceUnavailable: when reading fails (a network file system that is away).

    """
    path = os.fsdecode(unquote_to_bytes(urlsplit(location.url).path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # or a FIFO would keep us waiting
        try:
            require_descriptor(fd, path)
            filled = _pread(fd, wanted.span.start, into)
            state = os.fstat(fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise BlobChanged(f"{path} is gone", AGAIN) from None
    except PermissionError:
        raise AccessDenied(f"{path} may not be read") from None
    except OSError as error:
        raise SourceUnavailable(f"reading {path} failed: {error.strerror}") from None
    if filled != len(into) or file_version(state.st_mtime_ns, state.st_size) != location.version:
        raise BlobChanged(f"{path} was written to", AGAIN)
    landed(filled)
    return Receipt(first_byte_s=0.0, whole_object=False)


def _pread(fd: int, offset: int, into: memoryview) -> int:
    """Fill `into` from `offset`; return how much there was."""
    filled = 0
    while filled < len(into):
        got = os.preadv(fd, [into[filled : filled + PIECE_BYTES]], offset + filled)
        if not got:
            break
        filled += got
    return filled
