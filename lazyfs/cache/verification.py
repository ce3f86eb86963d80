"""Whether a stored blob is what its publisher says: its sha256, over what the disk really gives back."""

import hashlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lazyfs.cache.blockfile import read_block
from lazyfs.cache.directory import CacheDirectory
from lazyfs.cache.places import Kept
from lazyfs.core.blob import Grid, page_aligned
from lazyfs.core.blocktable import ABSENT, BlockTable

GoOn = Callable[[], bool]
"""Asked before every block: may take its time, and says no when the answer is not wanted any more."""


class Verdict(StrEnum):
    """What became of a look at a whole blob."""

    RIGHT = "right"
    WRONG = "wrong"
    """All blocks are as they were stored, and together not what the publisher says."""
    DAMAGED = "damaged"
    """A block is not as it was stored."""
    LEFT = "left"
    """It was not wanted any more, or the disk would not."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """What came of hashing a blob."""

    verdict: Verdict
    block: int = 0
    """The block that was damaged, if one was."""


def hash_stored(directory: CacheDirectory, grid: Grid, kept: Kept, there: Kept, go_on: GoOn) -> Hashed:
    """Read every block of a complete blob once; the table of `there` gets the checksums it will lie under.

    `there.blob` has the publisher's digest, like `sha256:...`.
    """
    published, found = there.blob, hashlib.sha256()
    path = directory.blob_path(kept.blob.store_key) / "data"
    longest = min(grid.block_bytes, published.size_bytes)
    with mmap.mmap(-1, max(page_aligned(longest), mmap.PAGESIZE)) as pages, memoryview(pages) as view:
        for index in range(grid.count(published.size_bytes)):
            if not go_on():
                return Hashed(Verdict.LEFT)
            span = grid.span(published.size_bytes, index)
            try:
                with view[: page_aligned(span.size_bytes)] as into:
                    got = read_block(path, span.start, into, direct=directory.direct)
            except OSError:
                return Hashed(Verdict.LEFT)
            with view[: span.size_bytes] as content:
                if got < span.size_bytes or not _is_as_stored(kept.table, index, content):
                    return Hashed(Verdict.DAMAGED, index)
                found.update(content)
                there.table[index] = there.table.checksum_of(index, content)
    matches = f"sha256:{found.hexdigest()}" == published.digest
    return Hashed(Verdict.RIGHT if matches else Verdict.WRONG)


def _is_as_stored(table: BlockTable, index: int, content: memoryview) -> bool:
    entry = table[index]
    return entry != ABSENT and table.checksum_of(index, content) == entry
