"""What to fetch before anybody asks: the order of warm-up, and read-ahead in front of each stream.

Warm-up goes through small files and the head of every large weight file first, because an engine reads all of
those before any weight; then through the weight files in natural order. A demand miss re-aims it: the
rest of that file from there, the following files, then what was skipped.

Read-ahead knows *streams*, not handles: tensor-parallel ranks and files of mixed dtypes read one file in
several places at once, each moving forward. A stream proposes nothing until it has moved, so random reads
cost nothing extra; then it proposes a window that doubles while it goes on.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from lazyfs.core.blob import HEAD, PAGE_BYTES, BlobRef, BlockKey, ByteRange, Grid


class Policy(StrEnum):
    """What warm-up fetches."""

    MODEL = "model"
    """Everything."""
    FILE = "file"
    """Every file somebody has read from."""
    DEMAND = "demand"
    """Nothing: only what is read, and what lies just ahead of it."""


WEIGHTS = ".safetensors"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack")
"""The same weights in another format, when there are safetensors: warmed up last."""
STREAMS_MAX = 16
CONFIRM_BYTES = 3 << 20
"""A stream that has moved this far is believed. The kernel asks for less when somebody reads a header."""
HEAD_BYTES = 1 << 20
"""What the kernel asks for when the front of a file is mapped; headers are smaller."""
HEADS_BYTES_MAX = 32 << 20
HEAD_BYTES_MIN = 64 << 10
"""Heads that would have to be smaller than this, being so many, are not worth a request."""


@dataclass(slots=True)
class _Stream:
    position: int
    moved_bytes: int = 0
    window: int = 1
    proposed: int = 0
    """Blocks before this one were proposed already."""


@dataclass(slots=True)
class _File:
    size_bytes: int
    seen: bytearray
    streams: deque[_Stream] = field(default_factory=deque)


class Planner:
    """Pure: what it has been told -> what should come next. Knows keys, not bytes."""

    def __init__(
        self,
        blobs: dict[int, BlobRef],
        grid: Grid,
        policy: Policy,
        window_blocks: int = 8,
        head_bytes: int = 0,
    ) -> None:
        self._grid = grid
        self._blobs = blobs
        self._head_bytes = head_bytes
        self._window_blocks = window_blocks
        self._policy = policy
        self._files = {
            inode: _File(blob.size_bytes, bytearray(grid.count(blob.size_bytes)))
            for inode, blob in blobs.items()
        }
        self._order = warm_order(blobs)
        self._rank = {inode: place for place, inode in enumerate(self._order)}
        self._aim = (0, 0)
        self._warm = set(self._order) if policy is Policy.MODEL else set()
        self._exhausted = False
        """Whether the last look around found nothing: with thousands of files it takes a while."""

    def first_wanted(self) -> list[BlockKey]:
        """Return what an engine reads before any weight: small files, then weight files' headers.

        Of the first weight file that is its first block, which is wanted next anyway; of the others their
        heads.
        """
        if self._policy is not Policy.MODEL:
            return []
        block = self._grid.block_bytes
        small = [inode for inode in self._order if 0 < self._blobs[inode].size_bytes <= block]
        large = large_weights(self._blobs, block)
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
            self._exhausted = False

    def give_up(self, inode: int) -> None:
        """Say that a blob cannot be had any more: warm-up leaves it out."""
        file = self._files[inode]
        file.seen[:] = b"\1" * len(file.seen)

    def next_warm(self) -> BlockKey | None:
        """Return, and mark, the block that warm-up should fetch next; None when there is none."""
        if self._exhausted:
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
        self._exhausted = True
        return None

    def observe(self, inode: int, span: ByteRange, *, missed: bool) -> tuple[BlockKey, ...]:
        """Take note of a read; return the blocks to read ahead, nearest first.

        `missed` says that the reader had to wait for a block nobody had asked for: warm-up goes on from
        there.
        """
        file = self._files[inode]
        block = self._grid.block_bytes
        if self._policy is Policy.FILE and inode not in self._warm:
            self._warm.add(inode)
            self._exhausted = False
        if missed:
            self._aim = (self._rank[inode], span.start // block)
        stream = self._follow(file, span)
        if stream.moved_bytes < min(CONFIRM_BYTES, block):
            return ()
        current = max(span.stop - 1, 0) // block
        first = max(stream.proposed, current + 1)
        stop = min(current + 1 + stream.window, len(file.seen))
        if first < stop:
            stream.proposed = stop
            stream.window = min(stream.window * 2, self._window_blocks)
        return tuple(BlockKey(inode, index) for index in range(first, stop))

    def _follow(self, file: _File, span: ByteRange) -> _Stream:
        """Return the stream this read continues, moved on; or a new one.

        The kernel sends the requests of one reader a little out of order, so near counts as next.
        """
        near = self._grid.block_bytes
        for stream in file.streams:
            if abs(span.start - stream.position) <= near:
                stream.moved_bytes += span.size_bytes
                stream.position = max(stream.position, span.stop)
                return stream
        stream = _Stream(span.stop, span.size_bytes)
        file.streams.appendleft(stream)
        if len(file.streams) > STREAMS_MAX:
            file.streams.pop()
        return stream


def large_weights(blobs: dict[int, BlobRef], block_bytes: int) -> list[int]:
    """Return the inodes of weight files of more than one block."""
    return [
        inode
        for inode, blob in blobs.items()
        if blob.size_bytes > block_bytes and blob.name.endswith(WEIGHTS)
    ]


def head_bytes(blobs: dict[int, BlobRef], block_bytes: int, memory_bytes: int) -> int:
    """Return how large the heads are, all together at most an eighth of the memory; 0 for none at all."""
    count = len(large_weights(blobs, block_bytes)) - 1
    if count < 1 or block_bytes < 2 * HEAD_BYTES:
        return 0
    share = min(HEADS_BYTES_MAX, memory_bytes // 8) // count
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
