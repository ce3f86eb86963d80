"""What every source promises; `tests/sources/test_contract.py` holds each of them to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lazyfs.core.blob import BlobRef
from lazyfs.core.layout import Repository
from lazyfs.core.location import Location
from lazyfs.core.publication import Unmet


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a source, beyond what the environment says."""

    endpoint_url: str | None = None
    anonymous: bool = False
    addressing_style: str | None = None
    allowed: tuple[str, ...] = ()
    """Where a source may be (`core/allowance.py`); nothing: the default."""


class Source(Protocol):
    """A place that holds blobs. Blocking, and safe to call from several threads at once."""

    def list(self) -> Iterator[BlobRef]:
        """Yield every object below the address, its version pinned.

        Called once, at mount. Names are relative to the address; what cannot be a file name is yielded too
        (the manifest refuses it, and says so).

        Raises:
            SourceMissing: when there is no such place, or nothing in it.
            AccessDenied: when the credentials are refused, or missing.
            SourceUnavailable: when the place cannot be reached.

        """
        ...

    def locate(self, blob: BlobRef) -> Location:
        """Return where the pinned version of `blob` can be read, for a while.

        The caller keeps the answer until it expires or is refused.

        Raises:
            OriginMismatch: when the blob's origin is not at this source: nobody else's bytes stand for it.
            AccessDenied: when the credentials no longer do.
            SourceUnavailable: when the place that signs cannot be reached.

        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class Versioned(Protocol):
    """What a source has as well whose blobs are those of a repository at a commit."""

    def repository(self) -> Repository:
        """Return which one, once it has been listed. No request."""
        ...


@runtime_checkable
class Renaming(Protocol):
    """What a source has as well whose origins earlier versions wrote in another way (`core/origin.py`)."""

    def renamed(self, blob: BlobRef) -> BlobRef:
        """Return a blob as it would be listed now, as far as its origin goes. No request.

        Raises:
            OriginMismatch: when it was listed elsewhere.
            LazyfsError: when there are no credentials to ask with.

        """
        ...


@runtime_checkable
class Claimed(Protocol):
    """What a source has as well where a publication may lie beside the files."""

    def unmet(self) -> Unmet:
        """Return where that does not fit what was listed. No request."""
        ...
