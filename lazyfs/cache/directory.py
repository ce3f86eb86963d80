"""The cache directory: where things lie, whether it can be used, how large it is, who leaves first.

::

    <root>/v2/objects/<k[:2]>/<k>/data        sparse, byte-identical to the original, of its exact size
                                 /blocks      header and a checksum per block (core.blocktable)
                                 /meta.json   what it is and where it came from (core.blobmeta)
                                 /from-<k>    empty: what lies here, under its sha256, came whole from there
    <root>/v2/snapshots/<id>.json             the manifest of each snapshot that was mounted

`k` is the blob's sha256 once that has been verified here, else a hash of where it came from
(`cache.places`). What lies in `<root>/v1` is of versions whose keys did not tell all servers apart. It is not
read; it counts, and leaves before anything else does (docs/adr/0018).

Several processes may use one directory: files appear whole (written aside, then linked or renamed), and a
blob leaves by a rename, so that whoever has it open keeps it.
"""

import errno
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash

from lazyfs.cache.blockfile import takes_direct_io
from lazyfs.core import blobmeta
from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import Manifest
from lazyfs.errors import CacheFull, CacheUnusable

log = logging.getLogger(__name__)

FORMAT = 2
COMING_S = 60.0
"""To link a blob's files elsewhere takes milliseconds; who has not done it in so long was killed."""
FREE_SHARE = 10
"""`auto` leaves one part in this many of the file system free."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob's directory: what it takes on disk, and when a mount last used it (epoch seconds)."""

    store_key: str
    path: Path
    allocated_bytes: int
    used_at_s: float
    older: bool = False
    """Whether a version with other keys has left it there."""


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

        A table beside data that was missing says nothing true, so it does not stay either.

        Raises:
            OSError: when the disk will not.

        """
        path = self.blob_path(blob.store_key)
        self._make(path)
        with suppress(FileExistsError):
            os.close(os.open(path / "data", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            replace = True
        if (path / "data").stat().st_size != blob.size_bytes:
            os.truncate(path / "data", blob.size_bytes)
        self.write_meta(blob, replace=False)
        _publish(path / "blocks", table, replace=replace)

    def _make(self, path: Path) -> None:
        """Make a directory, and those between it and the root: each for its owner alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for above in (*reversed(path.relative_to(self.root).parents), path.relative_to(self.root)):
            (self.root / above).mkdir(mode=0o700, exist_ok=True)

    def write_meta(self, blob: BlobRef, *, replace: bool) -> None:
        """Write what a blob is and where it came from; an existing file stays unless `replace`.

        Raises:
            OSError: when the disk will not.

        """
        path = self.blob_path(blob.store_key) / "meta.json"
        _publish(path, blobmeta.encode(blob, xxhash.xxh3_64_intdigest), replace=replace)

    def save_snapshot(self, manifest: Manifest) -> bool:
        """Keep the manifest of a mounted snapshot; return whether a damaged one lay there.

        Raises:
            OSError: when the disk will not.

        """
        path, content = self._snapshots / f"{manifest.snapshot_id}.json", manifest.to_json().encode()
        try:
            damaged = path.read_bytes() != content
        except FileNotFoundError:
            damaged = False
        except OSError:
            damaged = True
        if damaged:
            log.warning("cache_file_damaged file=%r", path.name)
        _publish(path, content, replace=True)
        return damaged

    def touch(self, store_key: str) -> None:
        """Say that a mount uses a blob now; nothing when it is not here."""
        try:
            os.utime(self.blob_path(store_key) / "meta.json")
        except OSError:
            return

    def stored(self) -> list[StoredBlob]:
        """Return every blob here in the order in which they leave: those of older formats, longest unused."""
        found = [blob for older in _older(self.root) for blob in _blobs(older / "objects", older=True)]
        found += _blobs(self._objects)
        return sorted(found, key=lambda blob: (not blob.older, blob.used_at_s))

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

    def discard(self, store_key: str) -> None:
        """Take a blob out, if it is here; see `remove`.

        Raises:
            OSError: when the disk will not.

        """
        path = self.blob_path(store_key)
        if path.exists():
            self.remove(StoredBlob(store_key, path, 0, 0.0))

    def holds(self, store_key: str) -> bool:
        """Tell whether there is a blob under this digest, put there when it was verified.

        What somebody claims for a digest may be the key of an origin: what lies there was not.
        """
        return any(self.blob_path(store_key).glob("from-*"))

    def vouched(self, store_key: str, origin_key: str) -> bool:
        """Tell whether what lies under a digest once came whole from the origin with this key."""
        return (self.blob_path(store_key) / f"from-{origin_key}").exists()

    def vouch(self, store_key: str, origin_key: str) -> None:
        """Say that it did.

        Raises:
            OSError: when the disk will not.

        """
        (self.blob_path(store_key) / f"from-{origin_key}").touch(mode=0o600)

    def promote(self, stored: BlobRef, verified: BlobRef, table: bytes) -> bool:
        """Have the data of `stored` lie under the key of `verified` too; False when something lies there.

        It appears there whole: linked aside, then renamed.

        Raises:
            OSError: when the disk will not.

        """
        target = self.blob_path(verified.store_key)
        self._make(target.parent)
        aside = Path(tempfile.mkdtemp(dir=self.root / f"v{FORMAT}", prefix="coming-"))
        try:
            os.link(self.blob_path(stored.store_key) / "data", aside / "data")
            (aside / "blocks").write_bytes(table)
            meta = blobmeta.encode(verified, xxhash.xxh3_64_intdigest, verified_at_s=time.time())
            (aside / "meta.json").write_bytes(meta)
            (aside / f"from-{stored.store_key}").touch(mode=0o600)
            aside.rename(target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                return False
            raise
        return True

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
        _clear_older(root)
        _clean(root / f"v{FORMAT}")
        direct = takes_direct_io(root / f"v{FORMAT}")
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (CacheFull if full else CacheUnusable)(
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


def _older(root: Path) -> list[Path]:
    """Return where versions with other keys have kept their blobs."""
    return [path for number in range(1, FORMAT) if (path := root / f"v{number}").is_dir()]


def _blobs(objects: Path, *, older: bool = False) -> list[StoredBlob]:
    """Return the blobs below a directory, in no order."""
    found = []
    with suppress(FileNotFoundError):  # the whole directory may go at any time
        for path in objects.glob("??/*"):
            try:
                data = (path / "data").stat()
            except OSError:
                continue  # half made, leaving, or no directory of ours
            try:
                used_at_s = (path / "meta.json").stat().st_mtime
            except OSError:
                used_at_s = data.st_mtime
            found.append(StoredBlob(path.name, path, data.st_blocks * 512, used_at_s, older))
    return found


def _clear_older(root: Path) -> None:
    """Take away what is left of an older format when its last blob has gone."""
    for path in _older(root):
        if not _blobs(path / "objects"):
            shutil.rmtree(path, ignore_errors=True)


def _clean(root: Path) -> None:
    """Take away what others have begun to remove, or have long since begun to link and not finished."""
    left = list(root.glob("leaving-*"))
    with suppress(FileNotFoundError):
        left += [path for path in root.glob("coming-*") if time.time() - path.stat().st_mtime > COMING_S]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _refuse_newer(root: Path) -> None:
    versions = [
        int(found[1]) for entry in root.iterdir() if (found := re.fullmatch(r"v(\d{1,9})", entry.name))
    ]
    if max(versions, default=FORMAT) > FORMAT:
        raise CacheUnusable(
            f"cache directory {root} was made by a newer lazyfs (v{max(versions)}, this one knows v{FORMAT})",
            "upgrade lazyfs, or choose another --cache-dir",
        )


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
