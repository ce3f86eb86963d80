"""What is wrong with the files of stored blobs, looked at once, when a mount starts.

Blocks are not read here: each is checked when somebody wants it. Whatever else is found is mended at once
where that costs nothing, and said. The read is right in any case.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from lazyfs.cache.blockfile import data_spans, size_of
from lazyfs.cache.directory import CacheDirectory
from lazyfs.core.blob import BlobRef, Grid
from lazyfs.core.blobmeta import is_sound
from lazyfs.core.blocktable import BlockTable, Taken
from lazyfs.errors import CacheUnusable

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Finding:
    """What was found of one blob."""

    rejected: bool = False
    """Whether its table must be written anew before anything is stored."""
    lost: frozenset[int] = field(default_factory=frozenset)
    """Blocks that were stored, or seem to have been, and are not any more because a file is damaged."""
    mended_count: int = 0
    """Files that were damaged and have been put right."""


def audit(directory: CacheDirectory, blob: BlobRef, grid: Grid, table: BlockTable) -> Finding:
    """Read a blob's table into `table`, and look at the files around it.

    Raises:
        CacheUnusable: when the table was written by a newer version.

    """
    path = directory.blob_path(blob.store_key)
    if not path.exists():
        return Finding()
    directory.touch(blob.store_key)
    found = _table(path, blob, grid, table)
    found.mended_count += _mend_size(path / "data", blob) + _mend_meta(directory, path, blob)
    return found


def _table(path: Path, blob: BlobRef, grid: Grid, table: BlockTable) -> Finding:
    there = True
    try:
        taken = table.load((path / "blocks").read_bytes())
    except FileNotFoundError:
        taken, there = Taken.DAMAGED, False
    except OSError as error:
        log.warning("cache_table_unreadable blob=%r error=%r", blob.name, error.strerror)
        taken = Taken.DAMAGED
    if taken is Taken.NEWER:
        raise CacheUnusable(
            f"the cache at {path} was {taken}", "upgrade lazyfs, or choose another --cache-dir"
        )
    if taken is Taken.YES:
        return _cut_off(path, blob, table)
    # Half made by a process that was killed is no damage: nothing had been written then.
    lost = _covered(data_spans(path / "data"), blob, grid)
    if taken is not Taken.DAMAGED:
        log.warning("cache_table_rejected blob=%r why=%r", blob.name, taken.value)
        return Finding(rejected=True)
    if lost:
        _tell("blocks", blob, lost)
    return Finding(rejected=there or bool(lost), lost=lost)


def _cut_off(path: Path, blob: BlobRef, table: BlockTable) -> Finding:
    """Return what it means that `data` is shorter than the table says: all of it begins anew."""
    if not table.beyond(size_of(path / "data")):
        return Finding()
    lost = frozenset(table.stored)
    table.clear()
    _tell("data", blob, lost)
    return Finding(rejected=True, lost=lost)


def _covered(spans: list[tuple[int, int]], blob: BlobRef, grid: Grid) -> frozenset[int]:
    """Return the blocks that have any bytes within `spans`."""
    return frozenset(
        index
        for start, stop in spans
        for index in range(start // grid.block_bytes, grid.count(min(stop, blob.size_bytes)))
    )


def _mend_size(data: Path, blob: BlobRef) -> int:
    """Give `data` its size back; what was cut off of it has been told."""
    try:
        size_bytes = data.stat().st_size
        if size_bytes in {blob.size_bytes, 0}:  # 0: half made, see above
            return 0
        if size_bytes > blob.size_bytes:
            _tell("data", blob)
        os.truncate(data, blob.size_bytes)
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.warning("cache_not_mended blob=%r file=data error=%r", blob.name, error.strerror)
    return 1


def _mend_meta(directory: CacheDirectory, path: Path, blob: BlobRef) -> int:
    try:
        content = (path / "meta.json").read_bytes()
        if is_sound(content, blob.store_key, xxhash.xxh3_64_intdigest):
            return 0
    except FileNotFoundError:
        if not (path / "blocks").exists():
            return 0  # half made
    except OSError as error:
        log.warning("cache_not_mended blob=%r file=meta.json error=%r", blob.name, error.strerror)
    _tell("meta.json", blob)
    try:
        directory.write_meta(blob, replace=True)
    except OSError as error:
        log.warning("cache_not_mended blob=%r file=meta.json error=%r", blob.name, error.strerror)
    return 1


def _tell(file: str, blob: BlobRef, lost: frozenset[int] = frozenset()) -> None:
    log.warning("cache_file_damaged blob=%r file=%s blocks_lost=%d", blob.name, file, len(lost))
