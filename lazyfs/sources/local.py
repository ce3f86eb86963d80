"""`file:///directory` (or one file): a directory on NFS or a PVC, cached like any source."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location, file_version
from lazyfs.core.origin import below
from lazyfs.core.publication import CONTENT_BYTES_MAX, FILE_NAME, Published, Unmet, same_file
from lazyfs.errors import AccessDenied, SourceMissing, SourceUnavailable, UsageError
from lazyfs.sources.base import Access
from lazyfs.sources.publications import apart, with_publication
from lazyfs.transport import gate

log = logging.getLogger(__name__)

PARTIAL = ".lazyfs-partial"
"""What the names of copies end with that `lazyfs publish` has not completed: none of the model."""
OURS = ".lazyfs"
"""What a pull keeps at the top of the directory it fills: none of the model."""


def connect(address: str, _access: Access) -> "LocalSource":
    """Return the source of a `file:///...` address.

    Raises:
        UsageError: when the address names a host, or no absolute path.
        AccessDenied: when no source may be there.

    """
    path = path_of(address)
    gate.require_path(str(path))
    return LocalSource(path)


def path_of(address: str) -> Path:
    """Return the path of a `file:///...` address.

    Raises:
        UsageError: see `connect`.

    """
    # Not urlsplit: a path may hold '#' and '?', and nobody quotes those in a path they typed.
    host, _, path = address.removeprefix("file://").partition("/")
    if host not in {"", "localhost"} or not path:
        raise UsageError(f"{address} is not a local path", "write it like file:///models/llama")
    return Path("/" + path)


def _same(claim: Published, blob: BlobRef) -> bool | None:
    return same_file(claim, blob.modified_ns)


class LocalSource:
    """Files below a directory, pinned by modification time and size. Symbolic links are followed."""

    place = "file://"
    """What the origin of each file begins with; its quoted path follows."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unmet = Unmet()
        self.dangling: list[str] = []
        """Names of links that led nowhere when the directory was listed."""

    def list(self) -> Iterator[BlobRef]:
        """Yield every regular file below the directory; see `Source.list`."""
        try:
            if self._root.is_file():
                yield self._blob(self._root, self._root.name)
                return
            if not self._root.is_dir():
                raise SourceMissing(f"there is no {self._root}", "check the path")
            published, blobs = apart(list(self.below()))
            if not blobs:
                raise SourceMissing(f"there are no files in {self._root}", "check the path")
            if published is not None:
                blobs, self._unmet = with_publication(blobs, self._publication, _same)
            yield from blobs
        except PermissionError as error:
            raise AccessDenied(f"{error.filename} may not be read", "check its permissions") from None
        except OSError as error:
            raise SourceUnavailable(f"listing {self._root} failed: {error.strerror}") from None

    def below(self) -> Iterator[BlobRef]:
        """Yield every regular file below the directory, the publication too, whatever it says."""
        return self._walk(self._root, "", frozenset())

    def unmet(self) -> Unmet:
        """See `Claimed.unmet`."""
        return self._unmet

    def _publication(self) -> bytes:
        try:
            with (self._root / FILE_NAME).open("rb") as file:
                return file.read(CONTENT_BYTES_MAX + 1)
        except OSError as error:
            raise AccessDenied(f"{FILE_NAME} cannot be read: {error.strerror}") from None

    def _walk(self, directory: Path, prefix: str, above: frozenset[Path]) -> Iterator[BlobRef]:
        """Yield the files below `directory`; a link to a directory `above` is not followed into a circle."""
        real = directory.resolve()
        if real in above:
            return
        with os.scandir(directory) as entries:
            for entry in entries:
                name = prefix + entry.name
                if name == OURS or name.endswith(PARTIAL):
                    continue
                if _leads_to(entry.is_dir):
                    yield from self._walk(Path(entry.path), f"{name}/", above | {real})
                elif _leads_to(entry.is_file):
                    yield self._blob(Path(entry.path), name)
                elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - takes any name
                    log.warning("link_dangling name=%r target=%r", name, os.readlink(entry.path))  # noqa: PTH115
                    self.dangling.append(name)

    def _blob(self, path: Path, name: str) -> BlobRef:
        gate.require_path(str(path))
        state = path.stat()
        origin = self.place + quote(os.fsencode(path.resolve()))
        version = file_version(state.st_mtime_ns, state.st_size)
        return BlobRef(name, origin, version, state.st_size, modified_ns=state.st_mtime_ns)

    def locate(self, blob: BlobRef) -> Location:
        """Return the file's own URL; it never expires."""
        below(blob.origin, self.place)
        return Location(blob.origin, version=blob.version)

    def close(self) -> None:
        """Nothing is held."""


def _leads_to(kind: Callable[[], bool]) -> bool:
    """Ask an entry of a directory; a link to itself leads to nothing, like any that dangles."""
    try:
        return kind()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False
