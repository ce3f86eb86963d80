"""Blobs, ranges of bytes, and the grid of blocks that both network and store use.

A *blob* is one immutable version of one object. A *grid* cuts every blob into blocks of one size; a block
is the unit that is fetched, kept in memory, checked and stored (docs/adr/0002). Ranges are half-open and are
always a `ByteRange`, never two loose integers.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to but not including `stop`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuse what is not a range (our own bug, never input)."""
        assert 0 <= self.start <= self.stop, f"not a range: {self.start}..{self.stop}"

    @property
    def size_bytes(self) -> int:
        """How many bytes the range holds."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class BlobRef:
    """One pinned version of one object.

    `name` is the path inside the mount; `origin` is where the object lives (`core/origin.py`), without
    credentials and independent of the mounted prefix; `version` pins it (an S3 VersionId or ETag, a
    modification time); `digest` is `"sha256:<hex>"` when the publisher gives one; `modified_ns` is shown as
    its mtime.
    `revision` is where in the source's history it was found, when that is needed to locate it (the commit of
    a Hub repository); the same blob of another revision is the same blob.
    """

    name: str
    origin: str
    version: str
    size_bytes: int
    digest: str | None = None
    modified_ns: int = 0
    revision: str | None = None

    @property
    def store_key(self) -> str:
        """The 64 hex digits that name this blob in the store.

        The publisher's sha256 when there is one, so that the same weights from two places are one file;
        else a hash of origin, version and size, each after its length: whatever they hold, two that differ
        in one of them are not joined to the same bytes.
        """
        if self.digest is not None and self.digest.startswith("sha256:"):
            return self.digest.removeprefix("sha256:")
        identity = hashlib.sha256(b"lazyfs origin\n")
        for field in (self.origin, self.version, str(self.size_bytes)):
            encoded = field.encode("utf-8", "surrogatepass")
            identity.update(b"%d:%b" % (len(encoded), encoded))
        return identity.hexdigest()


HEAD = -1
"""The index of a blob's *head*: the front of its first block, fetched before any whole block.

An engine reads the headers of all weight files before any weight. They are in the heads, which are small:
those of 32 files come in an eighth of the time of 32 blocks.
"""


@dataclass(frozen=True, slots=True)
class BlockKey:
    """A block of a mounted blob: the blob's inode number and the block's index in it, or `HEAD`."""

    inode: int
    index: int

    @property
    def place(self) -> str:
        """What people are told: the index, or `head`."""
        return "head" if self.index == HEAD else str(self.index)


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes `start` up to `stop` of the block `index`, counted from the start of that block."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Cuts blobs into blocks of `block_bytes`; only a blob's last block may be shorter."""

    block_bytes: int

    def __post_init__(self) -> None:
        """Refuse sizes that direct I/O cannot address (checked for users in `config`)."""
        assert self.block_bytes > 0
        assert self.block_bytes % PAGE_BYTES == 0

    def count(self, size_bytes: int) -> int:
        """Return how many blocks a blob of `size_bytes` has; an empty one has none."""
        return -(-size_bytes // self.block_bytes)

    def span(self, size_bytes: int, index: int) -> ByteRange:
        """Return the bytes of a blob of `size_bytes` that its block `index` holds."""
        assert 0 <= index < self.count(size_bytes), f"no block {index} in {size_bytes} bytes"
        start = index * self.block_bytes
        return ByteRange(start, min(start + self.block_bytes, size_bytes))

    def cover(self, span: ByteRange) -> Iterator[Cut]:
        """Yield the pieces of blocks that make up `span`, in order."""
        position = span.start
        while position < span.stop:
            index, start = divmod(position, self.block_bytes)
            stop = min(start + span.stop - position, self.block_bytes)
            yield Cut(index, start, stop)
            position += stop - start


def page_aligned(size_bytes: int) -> int:
    """Return `size_bytes` rounded up to whole pages, as direct I/O wants lengths."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
