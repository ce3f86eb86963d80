"""What to fetch before anybody asks: the order of warm-up, and read-ahead in front of each stream.

Warm-up goes through small files and the head of every large weight file first, because an engine reads all of
those before any weight; then through the weight files in natural order. A stream that misses re-aims
it: the rest of that file from there, the following files, then what was skipped.

Read-ahead knows *streams*, not handles: tensor-parallel ranks and files of mixed dtypes read one file in
several places at once. A stream moves forward or backward: where source and target lie alike within their
pages, memcpy(3) begins with the end of what it copies and goes down, tensor after tensor. A stream proposes
nothing until it has moved, so random reads cost nothing extra; then a window that doubles while it
goes on. What was read already is not proposed: the kernel has it, and until a miss says otherwise nobody will
ask again. Blocks that nobody asks for fill the memory, and are read from disk for nothing.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lazyfs.core.blob import HEAD, PAGE_BYTES, BlobRef, BlockKey, ByteRange, Grid
from lazyfs.core.duplicates import OTHER_WEIGHTS, WEIGHTS


class Policy(StrEnum):
    """What warm-up fetches."""

    MODEL = "model"
    """Everything but duplicates (`core.duplicates`)."""
    FILE = "file"
    """Every file somebody has read from."""
    DEMAND = "demand"
    """Nothing: only what is read, and what lies just ahead of it."""


STREAMS_MAX = 16
CONFIRM_BYTES = 12 << 20
"""A stream that has moved this far is believed, with small blocks earlier (`CONFIRM_BLOCKS`). The kernel asks
for 8 MiB when somebody only looks at a header that is mapped."""
CONFIRM_BLOCKS = 1.5
HEAD_BYTES = 1 << 20
"""What the kernel asks for when the front of a file is mapped; headers are smaller."""
HEADS_BYTES_MAX = 32 << 20
HEAD_BYTES_MIN = 64 << 10
"""Heads that would have to be smaller than this, being so many, are not worth a request."""


@dataclass(slots=True)
class _Stream:
    """Bytes `low` up to `high` were read by it, more or less."""

    low: int
    high: int
    moved_bytes: int = 0
    forward: bool = True
    missed: bool = False
    """Whether it has waited for a block nobody had asked for since warm-up was aimed at it."""
    window: int = 1
    proposed: int | None = None
    """The block farthest ahead that was proposed already."""

    def extend(self, span: ByteRange) -> None:
        """Take note of a read that belongs to it."""
        up, down = span.stop > self.high, span.start < self.low
        if up not in {down, self.forward}:
            self.forward, self.window, self.proposed = up, 1, None
        self.low, self.high = min(self.low, span.start), max(self.high, span.stop)
        self.moved_bytes += span.size_bytes

    def propose(self, block_bytes: int, count: int, window_max: int) -> range:
        """Return the blocks ahead of it that it has not proposed yet, nearest first."""
        if self.forward:
            at = max(self.high - 1, 0) // block_bytes
            first = at + 1 if self.proposed is None else max(self.proposed, at) + 1
            found = range(first, min(at + 1 + self.window, count))
        else:
            at = self.low // block_bytes
            first = at - 1 if self.proposed is None else min(self.proposed, at) - 1
            found = range(first, max(at - 1 - self.window, -1), -1)
        if found:
            self.proposed = found[-1]
            self.window = min(self.window * 2, window_max)
        return found


@dataclass(slots=True)
class _File:
    size_bytes: int
    seen: bytearray
    unread: list[int]
    """Bytes of each block that no reader was given."""
    streams: deque[_Stream] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class PlannerStatistics:
    """What a planner remembers."""

    streams: int
    """Readers that it follows, of all files."""


class Planner:
    """Pure: what it has been told -> what should come next. Knows keys, not bytes."""

    def __init__(
        self,
        blobs: dict[int, BlobRef],
        grid: Grid,
        policy: Policy,
        window_blocks: int = 8,
        head_bytes: int = 0,
        models: Sequence[dict[int, BlobRef]] = (),
        spared: frozenset[int] = frozenset(),
    ) -> None:
        """`models` are the same blobs, one model after the other, if there are several.

        Warm-up leaves out the `spared`, unless the policy is to fetch whole files and somebody reads one.
        """
        self._grid = grid
        self._blobs = blobs
        self._head_bytes = head_bytes
        self._window_blocks = window_blocks
        self._policy = policy
        self._files = {
            inode: _File(
                blob.size_bytes, bytearray(grid.count(blob.size_bytes)), _sizes(grid, blob.size_bytes)
            )
            for inode, blob in blobs.items()
        }
        self._order = [inode for model in models or [blobs] for inode in warm_order(model)]
        self._rank = {inode: place for place, inode in enumerate(self._order)}
        self._aim = (0, 0)
        self._warm = set(self._order) - spared if policy is Policy.MODEL else set()
        self.exhausted = not self._warm
        """Whether the last look around found nothing: with thousands of files it takes a while."""

    def statistics(self) -> PlannerStatistics:
        """Return what is remembered now."""
        return PlannerStatistics(sum(len(file.streams) for file in self._files.values()))

    def first_wanted(self) -> list[BlockKey]:
        """Return what an engine reads before any weight: small files, then weight files' headers.

        Of the first weight file that is its first block, which is wanted next anyway; of the others their
        heads.
        """
        if self._policy is not Policy.MODEL:
            return []
        block = self._grid.block_bytes
        wanted = [inode for inode in self._order if inode in self._warm]
        small = [inode for inode in wanted if 0 < self._blobs[inode].size_bytes <= block]
        large = large_weights({inode: self._blobs[inode] for inode in wanted}, block)
        large.sort(key=self._rank.__getitem__)
        heads = [BlockKey(inode, HEAD if self._head_bytes else 0) for inode in large[1:]]
        return [*(BlockKey(inode, 0) for inode in small + large[:1]), *heads]

    def mark(self, key: BlockKey) -> None:
        """Say that a block is here or on its way: warm-up need not fetch it."""
        if key.index != HEAD:
            self._files[key.inode].seen[key.index] = 1

    def unmark(self, key: BlockKey) -> None:
        """Say that a block is not coming after all: warm-up will come back to it, unless it is a head."""
        if key.index != HEAD:
            self._files[key.inode].seen[key.index] = 0
            self.exhausted = self.exhausted and key.inode not in self._warm

    def give_up(self, inode: int) -> None:
        """Say that a blob cannot be had any more: warm-up leaves it out."""
        file = self._files[inode]
        file.seen[:] = b"\1" * len(file.seen)

    def next_warm(self) -> BlockKey | None:
        """Return, and mark, the block that warm-up should fetch next; None when there is none."""
        if self.exhausted:
            return None
        place, index = self._aim
        # One round and the start of the first file again: that is where what was skipped lies.
        for _ in range(len(self._order) + 1):
            inode = self._order[place] if self._order else None
            if inode in self._warm:
                found = self._files[inode].seen.find(0, index)
                if found >= 0:
                    self._aim = (place, found + 1)
                    self.mark(BlockKey(inode, found))
                    return BlockKey(inode, found)
            place, index = (place + 1) % max(1, len(self._order)), 0
        self.exhausted = True
        return None

    def observe(self, inode: int, span: ByteRange, *, missed: bool) -> tuple[BlockKey, ...]:
        """Take note of a read; return the blocks to read ahead, nearest first.

        `missed` says that the reader had to wait for a block nobody had asked for: once its stream is
        believed, and moves forward, warm-up goes on from there. Not at once, see the module's docstring:
        warm-up that went to the end of a tensor left out what was read next.
        """
        file = self._files[inode]
        block = self._grid.block_bytes
        if self._policy is Policy.FILE and inode not in self._warm:
            self._warm.add(inode)
            self.exhausted = False
        self._take_note(file, span, missed=missed)
        stream = self._follow(file, span)
        stream.missed |= missed
        if stream.moved_bytes < min(CONFIRM_BYTES, CONFIRM_BLOCKS * block):
            return ()
        if stream.missed and stream.forward:
            stream.missed = False
            self._aim = (self._rank[inode], span.start // block)
        found = stream.propose(block, len(file.seen), self._window_blocks)
        return tuple(BlockKey(inode, index) for index in found if file.unread[index] > 0)

    def _take_note(self, file: _File, span: ByteRange, *, missed: bool) -> None:
        """Count what is read; forget it all when the kernel asks again for what it was given."""
        cuts = list(self._grid.cover(span))
        if missed and any(file.unread[cut.index] <= 0 for cut in cuts):
            file.unread = _sizes(self._grid, file.size_bytes)
        for cut in cuts:
            file.unread[cut.index] -= cut.stop - cut.start

    def _follow(self, file: _File, span: ByteRange) -> _Stream:
        """Return the stream this read continues, moved on; or a new one.

        The kernel sends the requests of one reader a little out of order, so near counts as next.
        """
        near = self._grid.block_bytes
        for stream in file.streams:
            if abs(span.start - stream.high) <= near or abs(span.stop - stream.low) <= near:
                stream.extend(span)
                return stream
        stream = _Stream(span.start, span.stop, span.size_bytes)
        file.streams.appendleft(stream)
        if len(file.streams) > STREAMS_MAX:
            file.streams.pop()
        return stream


def _sizes(grid: Grid, size_bytes: int) -> list[int]:
    return [grid.span(size_bytes, index).size_bytes for index in range(grid.count(size_bytes))]


def large_weights(blobs: dict[int, BlobRef], block_bytes: int) -> list[int]:
    """Return the inodes of weight files of more than one block."""
    return [
        inode
        for inode, blob in blobs.items()
        if blob.size_bytes > block_bytes and blob.name.endswith(WEIGHTS)
    ]


def head_bytes(blobs: dict[int, BlobRef], block_bytes: int, memory_bytes: int) -> int:
    """Return how large the heads are; 0 for none at all.

    All together they take at most an eighth of the memory, and leave room for a block: they stay until their
    blobs' first blocks come, which must be able to.
    """
    count = len(large_weights(blobs, block_bytes)) - 1
    if count < 1 or block_bytes < 2 * HEAD_BYTES:
        return 0
    room_bytes = max(0, memory_bytes - memory_bytes // 8 - block_bytes)
    share = min(HEADS_BYTES_MAX, memory_bytes // 8, room_bytes) // count
    size = min(HEAD_BYTES, share // PAGE_BYTES * PAGE_BYTES)
    return size if size >= HEAD_BYTES_MIN else 0


def warm_order(blobs: dict[int, BlobRef]) -> list[int]:
    """Return inodes in the order an engine will want them: safetensors, the rest, other formats."""
    has_weights = any(blob.name.endswith(WEIGHTS) for blob in blobs.values())

    def place(inode: int) -> tuple[int, list[tuple[int, int | str]]]:
        name = blobs[inode].name
        other = has_weights and (name.endswith(OTHER_WEIGHTS) or name.startswith("original/"))
        group = 2 if other else 1 - name.endswith(WEIGHTS)
        return group, natural_key(name)

    return sorted(blobs, key=place)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts shard 2 before shard 10, as vLLM reads them."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part)) if place % 2 else (0, part) for place, part in enumerate(parts)]
