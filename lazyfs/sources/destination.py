"""Where models are published to: the other direction of a source (`lazyfs publish`).

`open_destination` is the registry, as `open_source` is for sources.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Protocol

from lazyfs.core.allowance import allowance
from lazyfs.core.blob import BlobRef
from lazyfs.core.location import file_version
from lazyfs.core.publication import Published
from lazyfs.errors import AccessDenied, BlobChanged, SourceUnavailable, UsageError
from lazyfs.sources.base import Access
from lazyfs.transport import gate

Told = Callable[[int, bool], None]
"""Told of bytes that are at the destination now, and whether they had to be sent."""

_MODULES = {"s3": "lazyfs.sources.s3_publish", "file": "lazyfs.sources.local_publish"}


PIECE_BYTES = 4 << 20


class Check(StrEnum):
    """What shows that the destination has the bytes that were read; the best first."""

    CHECKSUM = "checksum"
    """The server has compared a checksum of them."""
    MD5 = "md5"
    """The ETags are the MD5 of what was sent."""
    SIZE = "size"
    """Only their number."""


class Destination(Protocol):
    """A place to publish to. Blocking; several threads call `send` and `digest_if_same` at once."""

    def list(self) -> list[BlobRef]:
        """Return what is there but the publication; nothing when there is no such place yet.

        Raises:
            LazyfsError: when that cannot be known.

        """
        ...

    def read_publication(self) -> bytes | None:
        """Return the `lazyfs.json` that is there, if there is one; call `list` before."""
        ...

    def write_publication(self, content: bytes) -> None:
        """Replace the `lazyfs.json`, at once and as a whole."""
        ...

    def same(self, claim: Published, held: BlobRef) -> bool | None:
        """Tell whether what is there is the version a publication speaks of; None when it does not say."""
        ...

    def prepare(self, files: Sequence[BlobRef]) -> None:
        """Look for what is left of uploads of these files that were broken off.

        Raises:
            UsageError: when one of them cannot be kept there under its name.

        """
        ...

    def digest_if_same(self, path: Path, file: BlobRef, held: BlobRef) -> str | None:
        """Return the sha256 of a local file if what is there provably has its bytes, else None."""
        ...

    def published(self, file: BlobRef, held: BlobRef, sha256: str) -> Published:
        """Return what to publish of a local file whose bytes are there already."""
        ...

    def send(self, path: Path, file: BlobRef, told: Told) -> Published:
        """Send a local file and return what is to be published of it, but for its tensors.

        Raises:
            BlobChanged: when it was written to meanwhile.
            LazyfsError: when the destination does not take it.

        """
        ...

    @property
    def check(self) -> Check:
        """The weakest of what showed so far that the destination has the right bytes."""
        ...

    def stop(self) -> None:
        """Have every `send` end soon, by an exception."""
        ...

    def close(self, *, resume: bool) -> None:
        """Leave nothing behind but, to `resume` later, what was sent of files that are not complete."""
        ...


class Stopped(BaseException):
    """Ends a `send` from within; no client library takes it for trouble that may pass."""


class Reading:
    """One pass over a local file, which is hashed as it is read."""

    def __init__(self, path: Path, file: BlobRef) -> None:
        self._path = path
        self._file = file
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """64 hex digits, once everything was read."""
        return self._hash.hexdigest()

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        """Yield the content, in pieces of that size but for the last.

        Raises:
            BlobChanged: when the file is gone, or no longer of the time and size it had when it was listed.
            AccessDenied: when it may not be read.
            SourceUnavailable: when its disk does not give it.

        """
        changed = BlobChanged(
            f"{self._path} was written to while it was read", "publish it when that is over"
        )
        try:
            with self._path.open("rb") as opened:
                while piece := opened.read(size_bytes):
                    self._hash.update(piece)
                    yield piece
                state = self._path.stat()
        except FileNotFoundError:
            raise changed from None
        except PermissionError:
            raise AccessDenied(f"{self._path} may not be read", "check its permissions") from None
        except OSError as error:
            raise SourceUnavailable(
                f"{self._path} cannot be read: {error.strerror}", "check its disk"
            ) from None
        if file_version(state.st_mtime_ns, state.st_size) != self._file.version:
            raise changed

    def read(self) -> None:
        """Read everything for its hash alone; see `pieces`."""
        for _piece in self.pieces(PIECE_BYTES):
            pass


def open_destination(address: str, access: Access) -> Destination:
    """Return the destination that `s3://bucket/prefix`, `file:///directory` or a path stands for.

    Raises:
        UsageError: for a scheme to which nothing can be published.

    """
    scheme, separator, place = address.partition("://")
    if not separator:
        scheme, place = "file", str(Path(address).absolute())
    scheme = scheme.lower()
    if scheme not in _MODULES:
        raise UsageError(
            f"nothing can be published to {scheme}://", "publish to s3://bucket/prefix or to a directory"
        )
    gate.allow(allowance(access.allowed))
    found: Destination = import_module(_MODULES[scheme]).connect_to(f"{scheme}://{place}", access)
    return found
