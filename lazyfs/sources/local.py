"""`file:///directory` (or one file): a directory on NFS or a PVC, cached like any source."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location, file_version
from lazyfs.errors import AccessDenied, SourceMissing, SourceUnavailable, UsageError
from lazyfs.sources.base import Access


def connect(address: str, _access: Access) -> "LocalSource":
    """Return the source of a `file:///...` address.

    Raises:
        UsageError: when the address names a host, or no absolute path.

    """
    # Not urlsplit: a path may hold '#' and '?', and nobody quotes those in a path they typed.
    host, _, path = address.removeprefix("file://").partition("/")
    if host not in {"", "localhost"} or not path:
        raise UsageError(f"{address} is not a local path", "write it like file:///models/llama")
    return LocalSource(Path("/" + path))


class LocalSource:
    """Files below a directory, pinned by modification time and size. Symbolic links are followed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> Iterator[BlobRef]:
        """Yield every regular file below the directory; see `Source.list`."""
        try:
            if self._root.is_file():
                yield self._blob(self._root, self._root.name)
                return
            if not self._root.is_dir():
                raise SourceMissing(f"there is no {self._root}", "check the path")
            empty = True
            for blob in self._walk(self._root, "", frozenset()):
                empty = False
                yield blob
            if empty:
                raise SourceMissing(f"there are no files in {self._root}", "check the path")
        except PermissionError as error:
            raise AccessDenied(f"{error.filename} may not be read", "check its permissions") from None
        except OSError as error:
            raise SourceUnavailable(f"listing {self._root} failed: {error.strerror}") from None

    def _walk(self, directory: Path, prefix: str, above: frozenset[Path]) -> Iterator[BlobRef]:
        """Yield the files below `directory`; a link to a directory `above` is not followed into a circle."""
        real = directory.resolve()
        if real in above:
            return
        with os.scandir(directory) as entries:
            for entry in entries:
                name = prefix + entry.name
                try:
                    is_directory, is_file = entry.is_dir(), entry.is_file()
                except OSError as error:
                    if error.errno != errno.ELOOP:  # a link to itself leads nowhere, like any that dangles
                        raise
                    continue
                if is_directory:
                    yield from self._walk(Path(entry.path), f"{name}/", above | {real})
                elif is_file:
                    yield self._blob(Path(entry.path), name)

    def _blob(self, path: Path, name: str) -> BlobRef:
        state = path.stat()
        origin = "file://" + quote(os.fsencode(path.resolve()))
        version = file_version(state.st_mtime_ns, state.st_size)
        return BlobRef(name, origin, version, state.st_size, modified_ns=state.st_mtime_ns)

    def locate(self, blob: BlobRef) -> Location:
        """Return the file's own URL; it never expires."""
        return Location(blob.origin, version=blob.version)

    def close(self) -> None:
        """Nothing is held."""
