"""Publishing into a directory: files are copied beside their place, then renamed; or left where they are.

A copy has the modification time of its original, by which `lazyfs.json` knows it again.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lazyfs.core.blob import BlobRef
from lazyfs.core.publication import CONTENT_BYTES_MAX, FILE_NAME, Published, same_file
from lazyfs.errors import AccessDenied, LazyfsError, TargetUnusable
from lazyfs.sources.base import Access
from lazyfs.sources.destination import PIECE_BYTES, Check, Reading, Stopped, Told
from lazyfs.sources.local import PARTIAL, LocalSource, path_of
from lazyfs.sources.publications import apart

_CURES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EIO: "check the disk",
    errno.ENAMETOOLONG: "rename the file",
}


def connect_to(address: str, _access: Access) -> "LocalDestination":
    """Return the destination of a `file:///...` address.

    Raises:
        UsageError: when the address names a host, or no absolute path.

    """
    return LocalDestination(path_of(address))


class LocalDestination:
    """A directory, which is made when it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stopped = threading.Event()

    @property
    def check(self) -> Check:
        """What is written to a file is there, or the system says so."""
        return Check.CHECKSUM

    def list(self) -> list[BlobRef]:
        """See `Destination.list`."""
        with self._told():
            return apart(list(LocalSource(self._root).below()))[1] if self._root.is_dir() else []

    def read_publication(self) -> bytes | None:
        """See `Destination.read_publication`."""
        try:
            with self._told(), (self._root / FILE_NAME).open("rb") as file:
                return file.read(CONTENT_BYTES_MAX + 1)
        except FileNotFoundError:
            return None

    def write_publication(self, content: bytes) -> None:
        """See `Destination.write_publication`."""
        with self._told(), self._replacing(self._root / FILE_NAME) as copy:
            copy.write_bytes(content)

    def same(self, claim: Published, held: BlobRef) -> bool | None:
        """See `Destination.same`."""
        return same_file(claim, held.modified_ns)

    def prepare(self, files: Sequence[BlobRef]) -> None:
        """Remove what is left of copies that were broken off."""
        with self._told():
            for file in files:
                _partial(self._root / file.name).unlink(missing_ok=True)

    def digest_if_same(self, path: Path, file: BlobRef, held: BlobRef) -> str | None:
        """See `Destination.digest_if_same`."""
        target = self._root / held.name
        ours = Reading(path, file)
        if target.samefile(path):
            ours.read()
            return ours.sha256
        if file.modified_ns != held.modified_ns:
            return None  # to be copied: comparing would be another pass over both
        theirs = Reading(target, held)
        ours.read()
        theirs.read()
        return ours.sha256 if ours.sha256 == theirs.sha256 else None

    def published(self, file: BlobRef, held: BlobRef, sha256: str) -> Published:
        """See `Destination.published`."""
        return Published(file.name, file.size_bytes, sha256, modified_ns=held.modified_ns)

    def send(self, path: Path, file: BlobRef, told: Told) -> Published:
        """See `Destination.send`."""
        target, reading = self._root / file.name, Reading(path, file)
        with self._told(), self._replacing(target) as copy:
            with copy.open("wb") as out:
                for piece in reading.pieces(PIECE_BYTES):
                    if self._stopped.is_set():
                        raise Stopped
                    out.write(piece)
                    told(len(piece), True)
                out.flush()
                os.fsync(out.fileno())
            os.utime(copy, ns=(file.modified_ns, file.modified_ns))
        # What a file system makes of the time counts: some keep less of it.
        return Published(file.name, file.size_bytes, reading.sha256, modified_ns=target.stat().st_mtime_ns)

    @contextmanager
    def _replacing(self, target: Path) -> Iterator[Path]:
        """Give a path to write to, which then takes the place of `target`."""
        copy = _partial(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield copy
            copy.replace(target)
        except FileNotFoundError as error:
            copy.unlink(missing_ok=True)
            if error.filename and not Path(os.fsdecode(error.filename)).is_relative_to(self._root):
                raise  # of what is published
            what = "lost a file while it was written" if self._root.is_dir() else "cannot be made"
            cure = "choose another directory; if somebody else publishes there, run it again afterwards"
            raise LazyfsError(f"{self._root} {what}", cure) from None
        except BaseException:
            copy.unlink(missing_ok=True)
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the system says of the destination into what a user can do something about."""
        try:
            yield
        except PermissionError as error:
            raise AccessDenied(f"{error.filename} may not be written", "check its permissions") from None
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise LazyfsError(f"{error.filename}: {error.strerror}", "publish to another directory") from None
        except FileNotFoundError:
            raise
        except OSError as error:
            what = error.filename2 or error.filename
            where = f" ({what})" if what and str(what) != str(self._root) else ""
            cure = _CURES.get(error.errno or 0, "make it writable")
            raise TargetUnusable(
                f"{self._root}: {error.strerror or error}{where}", f"{cure}, or publish to another directory"
            ) from None

    def stop(self) -> None:
        """See `Destination.stop`."""
        self._stopped.set()

    def close(self, *, resume: bool) -> None:
        """Nothing is left: complete files are there, and of others nothing."""
        del resume


def _partial(target: Path) -> Path:
    """Return where a copy is written: the same name every time, so that a later one takes the place of it.

    Of a hash: a name may be as long as names can be.
    """
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()
    return target.with_name(f".{digest[:32]}{PARTIAL}")
