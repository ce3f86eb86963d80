"""What a READ returns: a span of a blob, a text of the manifest, or the status document."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from lazyfs.core.blob import ByteRange
from lazyfs.core.tree import Node
from lazyfs.errors import NoSuchFile
from lazyfs.fuse.attributes import STATUS_BYTES, STATUS_INODE

STATUS_AGE_S = 0.2
"""So long one rendering serves, for readers that read it in pieces."""


class Reader(Protocol):
    """`streaming.reader.BlobReader`."""

    def read_now(self, inode: int, span: ByteRange) -> memoryview | bytes | None:
        """Return the bytes if they are in memory."""
        ...

    def read(self, inode: int, span: ByteRange, since_s: float | None) -> Awaitable[memoryview | bytes]:
        """Return the bytes once they are."""
        ...


class Content:
    """Answers reads by inode number, which is what our file handles are."""

    def __init__(self, nodes: dict[int, Node], reader: Reader, status: Callable[[], str]) -> None:
        self._blobs = {inode: node.blob for inode, node in nodes.items() if node.blob is not None}
        self._texts = {inode: node.text for inode, node in nodes.items() if node.text is not None}
        self._reader = reader
        self._status = status
        self._rendered: tuple[float, bytes] = (-STATUS_AGE_S, b"")

    def read_now(self, inode: int, offset: int, size: int) -> memoryview | bytes | None:
        """Return exactly the bytes asked for, cut only at the end of the file; None if that takes waiting.

        Raises:
            LazyfsError: when they cannot be had.

        """
        if inode == STATUS_INODE:
            return self._status_document()[offset : offset + size]
        if inode in self._texts:
            return self._texts[inode][offset : offset + size]
        span = self._span(inode, offset, size)
        return self._reader.read_now(inode, span) if span.size_bytes else b""

    async def read_later(
        self, inode: int, offset: int, size: int, since_s: float | None
    ) -> memoryview | bytes:
        """Return the same, once it is there, to a reader who waits since then if not from now on.

        Raises:
            LazyfsError: when they cannot be had.

        """
        return await self._reader.read(inode, self._span(inode, offset, size), since_s)

    def _span(self, inode: int, offset: int, size: int) -> ByteRange:
        blob = self._blobs.get(inode)
        if blob is None:
            raise NoSuchFile(f"there is no file with inode {inode}")
        return ByteRange(min(offset, blob.size_bytes), min(offset + size, blob.size_bytes))

    def _status_document(self) -> bytes:
        rendered_at_s, document = self._rendered
        if time.monotonic() - rendered_at_s > STATUS_AGE_S:
            document = self._status().encode().ljust(STATUS_BYTES - 1) + b"\n"
            assert len(document) == STATUS_BYTES, "the status document outgrew its file"
            self._rendered = (time.monotonic(), document)
        return document
