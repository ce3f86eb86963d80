"""FUSE requests -> the tree and the reader. A protocol adapter: it translates and decides nothing.

A handler may raise `FUSEError` only: any other exception would end the mount. `replies_errno` is the one
place where our errors become errno, and where anything unforeseen becomes EIO with a traceback in the log.
"""

import errno
import functools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3

from lazyfs.core.blob import ByteRange
from lazyfs.core.manifest import RESERVED_NAME, ROOT_INODE, Node
from lazyfs.errors import LazyfsError, ReadOnly
from lazyfs.fuse.attributes import (
    STATUS_BYTES,
    STATUS_DIRECTORY,
    STATUS_FILE,
    attributes,
    missing,
    status_attributes,
)
from lazyfs.telemetry.metrics import READ_ERRORS, Meter

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[Concatenate["Operations", P], Coroutine[Any, Any, R]]
Read = Callable[[int, ByteRange], Awaitable[memoryview | bytes]]
"""`BlobReader.read`."""

STATUS_NAME = b"status.json"
STATUS_AGE_S = 0.2
"""So long one rendering serves, for readers that read it in pieces."""
BLOCK_BYTES = 4096


def replies_errno(handler: "Handler[P, R]") -> "Handler[P, R]":
    """Let a handler raise our errors; see the module's docstring."""

    @functools.wraps(handler)
    async def wrapped(self: "Operations", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except LazyfsError as error:
            self.meter.add(READ_ERRORS, label=error.kind())
            raise pyfuse3.FUSEError(error.errno) from None
        except Exception:
            log.exception("internal_error handler=%s", handler.__name__)
            self.meter.add(READ_ERRORS, label="internal")
            raise pyfuse3.FUSEError(errno.EIO) from None

    return wrapped


class Operations(pyfuse3.Operations):
    """A pinned tree, read-only for ever. No per-open state: a file handle is the inode number."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, nodes: dict[int, Node], read: Read, status: Callable[[], str], meter: Meter) -> None:
        super().__init__()
        self.meter = meter
        self._nodes = nodes
        self._read = read
        self._status = status
        self._rendered: tuple[float, bytes] = (-STATUS_AGE_S, b"")
        self._listings: dict[int, list[tuple[bytes, int]]] = {}

    # -- names ---------------------------------------------------------------------------------------

    @replies_errno
    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        """Find a name; one that is missing is missing for ever."""
        if parent_inode == ROOT_INODE and name == RESERVED_NAME.encode():
            return status_attributes(STATUS_DIRECTORY, time.time_ns())
        if parent_inode == STATUS_DIRECTORY and name == STATUS_NAME:
            return status_attributes(STATUS_FILE, time.time_ns())
        parent = self._nodes.get(parent_inode)
        inode = parent.children.get(name) if parent else None
        return missing() if inode is None else attributes(self._nodes[inode])

    @replies_errno
    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        """Return a node's attributes."""
        if inode in {STATUS_DIRECTORY, STATUS_FILE}:
            return status_attributes(inode, time.time_ns())
        return attributes(self._node(inode))

    def _node(self, inode: int) -> Node:
        node = self._nodes.get(inode)
        if node is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return node

    @replies_errno
    async def opendir(self, inode: int, ctx: Any) -> int:
        """Open a directory: its handle is its inode."""
        if inode != STATUS_DIRECTORY and self._node(inode).blob is not None:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return inode

    @replies_errno
    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        """List a directory from entry `start_id` on. `.lazyfs` can be opened but is not listed."""
        if fh == STATUS_DIRECTORY:
            return
        listing = self._listings.get(fh)
        if listing is None:
            listing = self._listings[fh] = list(self._node(fh).children.items())
        for place in range(start_id, len(listing)):
            name, inode = listing[place]
            entry = attributes(self._nodes[inode])
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, place + 1):
                return

    # -- bytes ---------------------------------------------------------------------------------------

    @replies_errno
    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        """Open for reading. What the page cache has stays: the content never changes."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise ReadOnly("the mount is read-only")
        if inode == STATUS_FILE:
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=True, keep_cache=False)
        if self._node(inode).blob is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    @replies_errno
    async def read(self, fh: int, off: int, size: int) -> Any:  # bytes, or a view: pyfuse3 sends either
        """Return exactly the bytes asked for, cut only at the end of the file: a gap would become zeros."""
        if fh == STATUS_FILE:
            return self._status_document()[off : off + size]
        blob = self._node(fh).blob
        if blob is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        if off >= blob.size_bytes or not size:
            return b""
        return await self._read(fh, ByteRange(off, min(off + size, blob.size_bytes)))

    def _status_document(self) -> bytes:
        rendered_at_s, document = self._rendered
        if time.monotonic() - rendered_at_s > STATUS_AGE_S:
            document = self._status().encode().ljust(STATUS_BYTES - 1) + b"\n"
            assert len(document) == STATUS_BYTES, "the status document outgrew its file"
            self._rendered = (time.monotonic(), document)
        return document

    async def flush(self, fh: int) -> None:
        """Nothing to flush."""

    async def release(self, fh: int) -> None:
        """Nothing was kept for the handle."""

    async def releasedir(self, fh: int) -> None:
        """Nothing was kept for the handle."""

    async def forget(self, inode_list: Any) -> None:
        """Nodes live as long as the mount."""

    # -- the file system -----------------------------------------------------------------------------

    @replies_errno
    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        """Return the snapshot's size; nothing is free, for nothing can be written."""
        state = pyfuse3.StatvfsData()
        blobs = [node.blob for node in self._nodes.values() if node.blob is not None]
        state.f_bsize = state.f_frsize = BLOCK_BYTES
        state.f_blocks = sum(-(-blob.size_bytes // BLOCK_BYTES) for blob in blobs)
        state.f_files = len(self._nodes)
        state.f_namemax = 255
        return state

    @replies_errno
    async def access(self, inode: int, mode: int, ctx: Any) -> bool:
        """Refuse writing; reading is for everybody the kernel lets in."""
        if mode & os.W_OK:
            raise ReadOnly("the mount is read-only")
        return True

    # -- everything else: this tree never changes ----------------------------------------------------

    @replies_errno
    async def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ReadOnly("the mount is read-only")

    _refused: Any = _refuse
    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = _refused
    create = write = setxattr = removexattr = _refused
