"""FUSE requests -> the tree. A protocol adapter: it translates and decides nothing. READ is the courier's.

A handler may raise `FUSEError` only: any other exception would end the mount. `errno_of` is the one place
where our errors become errno, and where anything unforeseen becomes EIO with a traceback in the log.
"""

import errno
import functools
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3

from lazyfs.core.reserved import RESERVED_NAME, STATUS_NAME
from lazyfs.core.tree import ROOT_INODE, Node
from lazyfs.errors import LazyfsError, ReadOnly
from lazyfs.fuse.attributes import (
    STATUS_DIRECTORY,
    STATUS_INODE,
    Owner,
    attributes,
    missing,
    status_attributes,
)
from lazyfs.telemetry.metrics import READ_ERRORS, Meter

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[Concatenate["Operations", P], Coroutine[Any, Any, R]]

BLOCK_BYTES = 4096


def errno_of(error: Exception, handler: str, meter: Meter) -> int:
    """Return what a caller is told of an error; count it, and log what nobody foresaw."""
    if isinstance(error, LazyfsError):
        meter.add(READ_ERRORS, label=error.kind())
        return error.errno
    log.error("internal_error handler=%s", handler, exc_info=error)
    meter.add(READ_ERRORS, label="internal")
    return errno.EIO


def replies_errno(handler: "Handler[P, R]") -> "Handler[P, R]":
    """Let a handler raise our errors; see the module's docstring."""

    @functools.wraps(handler)
    async def wrapped(self: "Operations", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - any other would end the mount
            raise pyfuse3.FUSEError(errno_of(error, handler.__name__, self.meter)) from None

    return wrapped


class Operations(pyfuse3.Operations):
    """A pinned tree, read-only for ever. No per-open state: a file handle is the inode number."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, nodes: dict[int, Node], meter: Meter, owner: Owner) -> None:
        super().__init__()
        self._owner = owner
        self.meter = meter
        self._nodes = nodes
        self._listings: dict[int, list[tuple[bytes, int]]] = {}

    # -- names ---------------------------------------------------------------------------------------

    @replies_errno
    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        """Find a name; one that is missing is missing for ever."""
        if parent_inode == ROOT_INODE and name == RESERVED_NAME.encode():
            return status_attributes(STATUS_DIRECTORY, time.time_ns(), self._owner)
        if parent_inode == STATUS_DIRECTORY and name == STATUS_NAME.encode():
            return status_attributes(STATUS_INODE, time.time_ns(), self._owner)
        parent = self._nodes.get(parent_inode)
        inode = parent.children.get(name) if parent else None
        return missing() if inode is None else attributes(self._nodes[inode], self._owner)

    @replies_errno
    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        """Return a node's attributes."""
        if inode in {STATUS_DIRECTORY, STATUS_INODE}:
            return status_attributes(inode, time.time_ns(), self._owner)
        return attributes(self._node(inode), self._owner)

    def _node(self, inode: int) -> Node:
        node = self._nodes.get(inode)
        if node is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return node

    @replies_errno
    async def opendir(self, inode: int, ctx: Any) -> int:
        """Open a directory: its handle is its inode."""
        if inode != STATUS_DIRECTORY and not self._node(inode).is_directory:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return inode

    @replies_errno
    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        """List a directory from entry `start_id` on. `.lazyfs` and links can be opened but are not listed.

        A link may lead back up: who walks the tree need not go in circles.
        """
        if fh == STATUS_DIRECTORY:
            return
        listing = self._listings.get(fh)
        if listing is None:
            children = self._node(fh).children.items()
            listing = [(name, inode) for name, inode in children if self._nodes[inode].target is None]
            self._listings[fh] = listing
        for place in range(start_id, len(listing)):
            name, inode = listing[place]
            entry = attributes(self._nodes[inode], self._owner)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, place + 1):
                return

    @replies_errno
    async def readlink(self, inode: int, ctx: Any) -> bytes:
        """Return where a symbolic link leads."""
        target = self._node(inode).target
        if target is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return target

    # -- files ---------------------------------------------------------------------------------------

    @replies_errno
    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        """Open for reading. What the page cache has stays: the content never changes."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise ReadOnly("the mount is read-only")
        if inode == STATUS_INODE:
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=True, keep_cache=False)
        if not self._node(inode).is_file:
            raise pyfuse3.FUSEError(errno.EISDIR)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

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
