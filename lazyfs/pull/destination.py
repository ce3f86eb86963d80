"""The directory that a pull fills, and what is whose in it.

::

    DIR/<name>                      finished files, each put in place whole
    DIR/.lazyfs/lock                held by the pull at work
    DIR/.lazyfs/files               what was put in place, and which version it is (core.pulled)
    DIR/.lazyfs/parts/<...>.data    files on their way (pull.parts)
                     /<...>.blocks

A source cannot have names below `.lazyfs`: the manifest refuses them. The whole of it may be deleted while no
pull runs; then files without a publisher's digest are fetched again.
"""

import errno
import fcntl
import hashlib
import logging
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lazyfs.cache.blockfile import takes_direct_io
from lazyfs.core.blob import BlobRef
from lazyfs.core.pulled import Pulled, decode
from lazyfs.core.reserved import RESERVED_NAME
from lazyfs.core.tree import encode_name
from lazyfs.errors import TargetUnusable

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
_CURES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EISDIR: "move away what is there",
    errno.ENOTDIR: "move away what is there",
    errno.EIO: "check the disk",
}


def unusable(directory: Path, error: OSError) -> TargetUnusable:
    """Return what to say of a directory that the system would not let us use."""
    what = error.filename2 or error.filename
    where = f" ({what})" if what and str(what) != str(directory) else ""
    cure = _CURES.get(error.errno or 0, "make it writable")
    return TargetUnusable(f"{directory}: {error.strerror or error}{where}", f"{cure}, or choose another DIR")


class Destination:
    """A directory that is ours alone while this is open. Blocking; safe in several threads."""

    def __init__(self, root: Path) -> None:
        """Make the directory if need be, and take it.

        Raises:
            TargetUnusable: when it cannot be made or written, or another pull is at work there.

        """
        self.root = root
        own = root / RESERVED_NAME
        self.parts = own / "parts"
        try:
            _make(self.parts)
            self._lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._take(own)
            self.direct = takes_direct_io(self.parts)
            self._records_file = os.open(
                own / "files", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            content = os.pread(self._records_file, os.fstat(self._records_file).st_size, 0)
            if not content.endswith(b"\n"):
                os.write(self._records_file, b"\n")  # or what a kill has cut off would take the next along
            self._records = decode(content)
        except OSError as error:
            raise unusable(root, error) from None
        self._directories = {root}

    def _take(self, own: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetUnusable(
                f"another lazyfs pull is at work in {own.parent}", "wait for it, or choose another DIR"
            ) from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            log.warning("pull_not_locked dir=%r error=%r", str(own.parent), error.strerror)

    def close(self) -> None:
        """Let others have it."""
        with suppress(OSError):
            os.fdatasync(self._records_file)
        os.close(self._records_file)
        os.close(self._lock)

    def path(self, blob: BlobRef) -> Path:
        """Return where a file belongs."""
        return self.root / os.fsdecode(encode_name(blob.name))

    def free_bytes(self) -> int:
        """Return what the file system has left; one that does not know its size has no end.

        Raises:
            OSError: when it does not say.

        """
        state = os.statvfs(self.root)
        return state.f_bavail * state.f_frsize if state.f_blocks else sys.maxsize

    def recorded(self, blob: BlobRef) -> bool:
        """Tell whether the file in place is known to be this version: it was put there by a pull."""
        record, state = self._records.get(blob.name), self._state(blob)
        if record is None or state is None:
            return False
        found = Pulled(blob.name, blob.store_key, state.st_size, state.st_mtime_ns, state.st_ino)
        return record == found and state.st_size == blob.size_bytes

    def resembles(self, blob: BlobRef) -> bool:
        """Tell whether a file of this size is in place, and its digest can tell whether it is the one."""
        state = self._state(blob)
        return blob.digest is not None and state is not None and state.st_size == blob.size_bytes

    def _state(self, blob: BlobRef) -> os.stat_result | None:
        try:
            return self.path(blob).lstat()
        except OSError:
            return None

    def matches(self, blob: BlobRef) -> bool:
        """Read the file in place and compare its digest; if it is the publisher's, take note of that.

        Raises:
            OSError: when the record cannot be written.

        """
        try:
            with self.path(blob).open("rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                digest = hashlib.sha256()
                while piece := file.read(PIECE_BYTES):
                    digest.update(piece)
                state = os.fstat(file.fileno())
        except OSError:
            return False
        if f"sha256:{digest.hexdigest()}" != blob.digest or state.st_mtime_ns != before.st_mtime_ns:
            return False
        self._record(Pulled(blob.name, blob.store_key, state.st_size, state.st_mtime_ns, state.st_ino))
        return True

    def require_places(self, blobs: Iterable[BlobRef]) -> None:
        """Make sure that no directory is where a file belongs: nothing could be renamed to there.

        Raises:
            OSError: when there is one.

        """
        for blob in blobs:
            state = self._state(blob)
            if state is not None and stat.S_ISDIR(state.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path(blob)))

    def make_directories(self, blobs: Iterable[BlobRef]) -> None:
        """Make the directories of files.

        Raises:
            OSError: when the disk will not, or something else has that name.

        """
        for directory in sorted({self.path(blob).parent for blob in blobs} - self._directories):
            _make(directory)
            self._directories.add(directory)

    def place(self, blob: BlobRef, data: Path) -> None:
        """Put a whole file in place, so that it is there or not there whatever happens.

        What it holds is on the disk before it has its name.

        Raises:
            OSError: when the disk will not.

        """
        fd = os.open(data, os.O_RDWR | os.O_CLOEXEC)
        try:
            if blob.modified_ns:
                os.utime(fd, ns=(blob.modified_ns, blob.modified_ns))
            os.fsync(fd)
            state = os.fstat(fd)
        finally:
            os.close(fd)
        self._record(Pulled(blob.name, blob.store_key, state.st_size, state.st_mtime_ns, state.st_ino))
        path = self.path(blob)
        data.rename(path)
        _sync_directory(path.parent)

    def _record(self, record: Pulled) -> None:
        os.write(self._records_file, record.encode())  # appended, and small: whole, or cut off by a crash

    def tidy(self) -> None:
        """Remove what earlier pulls have left of files that nobody wants any more."""
        with suppress(OSError):
            for left in self.parts.iterdir():
                left.unlink()


def _make(directory: Path) -> None:
    """Make a directory and those above it, so that they are still there after a crash."""
    if directory.is_dir():
        return
    _make(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir()
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system can, and where it cannot nothing is lost
            os.fsync(fd)
    finally:
        os.close(fd)
