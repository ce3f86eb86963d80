"""The cache directory: where things lie, whether it can be used, how large it is, who leaves first.

::

    <root>/v1/objects/<k[:2]>/<k>/data        sparse, byte-identical to the original, of its exact size
                                 /blocks      header and a checksum per block (core.blocktable)
                                 /meta.json   name, size, source, version, digest, verified_at
    <root>/v1/snapshots/<id>.json             the manifest of each snapshot that was mounted

`k` is the blob's store key. Several processes may use one directory: files appear whole (written aside, then
linked or renamed), and a blob leaves by a rename, so that whoever has it open keeps it.
"""

import json
import logging
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import Manifest
from lazyfs.errors import CacheUnusable

log = logging.getLogger(__name__)

FORMAT = 1
FREE_SHARE = 10
"""`auto` leaves one part in this many of the file system free."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob's directory: what it takes on disk, and when a mount last used it (epoch seconds)."""

    store_key: str
    path: Path
    allocated_bytes: int
    used_at_s: float


class CacheDirectory:
    """A usable cache directory. Made with `open_directory`."""

    def __init__(self, root: Path, *, direct: bool) -> None:
        self.root = root
        self.direct = direct
        self._objects = root / f"v{FORMAT}" / "objects"
        self._snapshots = root / f"v{FORMAT}" / "snapshots"

    def blob_path(self, store_key: str) -> Path:
        """Return the directory of a blob, which need not exist."""
        return self._objects / store_key[:2] / store_key

    def prepare(self, blob: BlobRef, table: bytes, *, replace: bool) -> None:
        """Make a blob's directory and files where they are missing; an existing table stays unless `replace`.

        Raises:
            OSError: when the disk will not.

        """
        path = self.blob_path(blob.store_key)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size != blob.size_bytes:
                os.ftruncate(fd, blob.size_bytes)
        finally:
            os.close(fd)
        meta = {
            "name": blob.name,
            "size": blob.size_bytes,
            "source": blob.origin,
            "version": blob.version,
            "digest": blob.digest,
            "verified_at": None,
        }
        _publish(path / "meta.json", json.dumps(meta, indent=1).encode(), replace=False)
        _publish(path / "blocks", table, replace=replace)

    def save_snapshot(self, manifest: Manifest) -> None:
        """Keep the manifest of a mounted snapshot.

        Raises:
            OSError: when the disk will not.

        """
        path = self._snapshots / f"{manifest.snapshot_id}.json"
        _publish(path, manifest.to_json().encode(), replace=True)

    def touch(self, store_key: str) -> None:
        """Say that a mount uses a blob now; nothing when it is not here."""
        try:
            os.utime(self.blob_path(store_key) / "meta.json")
        except OSError:
            return

    def stored(self) -> list[StoredBlob]:
        """Return every blob here, longest unused first."""
        found = []
        for path in self._objects.glob("??/*"):
            try:
                allocated = (path / "data").stat().st_blocks * 512
                used_at_s = (path / "meta.json").stat().st_mtime
            except OSError:
                continue  # half made, leaving, or no directory of ours
            found.append(StoredBlob(path.name, path, allocated, used_at_s))
        return sorted(found, key=lambda blob: blob.used_at_s)

    def remove(self, blob: StoredBlob) -> None:
        """Take a whole blob out: renamed first, so that nobody finds half of it.

        Raises:
            OSError: when the disk will not.

        """
        aside = tempfile.mkdtemp(dir=self.root / f"v{FORMAT}", prefix="leaving-")
        # Another process may be faster.
        with suppress(FileNotFoundError):
            blob.path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def capacity_bytes(self, used_bytes: int) -> int:
        """Return the `auto` budget: what is used plus what is free, less a tenth of the file system."""
        state = os.statvfs(self.root)
        return max(0, used_bytes + self.free_bytes() - state.f_blocks * state.f_frsize // FREE_SHARE)

    def free_bytes(self) -> int:
        """Return what the file system has left for us; one that does not know its size (ramfs) has no end."""
        state = os.statvfs(self.root)
        return state.f_bavail * state.f_frsize if state.f_blocks else sys.maxsize


def open_directory(root: Path) -> CacheDirectory:
    """Make the cache directory if need be, check that it can be used, and return it.

    Raises:
        CacheUnusable: when it cannot be made, is not writable, or was made by a newer version.

    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_newer(root)
        for name in ("objects", "snapshots"):
            (root / f"v{FORMAT}" / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (root / f"v{FORMAT}").glob("leaving-*"):
            shutil.rmtree(left, ignore_errors=True)
        direct = _probe(root / f"v{FORMAT}")
    except OSError as error:
        raise CacheUnusable(
            f"cache directory {root}: {error.strerror}",
            "make it writable, choose another --cache-dir, or mount without a cache: --cache-size 0",
        ) from None
    if not direct:
        log.warning(
            "cache_without_direct_io dir=%r cost=%r cure=%r",
            str(root),
            "blocks also fill the page cache, and the CPU copies them once more",
            "put --cache-dir on ext4 or xfs",
        )
    return CacheDirectory(root, direct=direct)


def _refuse_newer(root: Path) -> None:
    versions = [
        int(found[1]) for entry in root.iterdir() if (found := re.fullmatch(r"v(\d{1,9})", entry.name))
    ]
    if max(versions, default=FORMAT) > FORMAT:
        raise CacheUnusable(
            f"cache directory {root} was made by a newer lazyfs (v{max(versions)}, this one knows v{FORMAT})",
            "upgrade lazyfs, or choose another --cache-dir",
        )


def _probe(directory: Path) -> bool:
    """Write a file, to see whether that works, and tell whether it works without the page cache.

    A full disk passes: what is there can still be read (`Store` decides whether that is enough).
    """
    fd, name = tempfile.mkstemp(dir=directory, prefix="probe-")
    os.close(fd)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return False
    else:
        os.close(fd)
        return True
    finally:
        os.unlink(name)  # noqa: PTH108 - a name from mkstemp


def _publish(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file so that it appears whole; an existing one stays unless `replace`."""
    if not replace and path.exists():
        return
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        if replace:
            Path(name).rename(path)
            return
        with suppress(FileExistsError):  # another process was faster; both wrote the same
            os.link(name, path)
        os.unlink(name)  # noqa: PTH108
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
