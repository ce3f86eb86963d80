"""What the kernel is told of a node. A function of the manifest alone, so it never changes while mounted."""

import stat

import pyfuse3

from lazyfs.core.tree import Node

STATUS_DIRECTORY = 2
STATUS_INODE = 3
STATUS_BYTES = 64 << 10
"""The status document is padded with blanks to this size: a file whose size changes confuses readers."""

READ_BYTES = 128 << 10
"""st_blksize, which Python takes for the buffer of a file. With 1 MiB, reading the first 8 bytes of a header
is so large a read that the kernel reads on behind it: 32 headers brought 32 blocks, in 2.3 s, not 0.4."""

FOREVER_S = 365 * 24 * 3600.0
"""Attributes, names and missing names are cached by the kernel for as long as it likes: nothing changes."""


Owner = tuple[int, int]
"""User and group ids."""


def attributes(node: Node, owner: Owner) -> pyfuse3.EntryAttributes:
    """Return a node's attributes: read-only, owned by whoever mounted."""
    if node.is_directory:
        return _entry(node.inode, stat.S_IFDIR | 0o555, (0, 0), owner)
    if node.target is not None:
        return _entry(node.inode, stat.S_IFLNK | 0o777, (len(node.target), 0), owner)
    content = len(node.text or b""), 0
    if node.blob is not None:
        content = node.blob.size_bytes, node.blob.modified_ns
    entry = _entry(node.inode, stat.S_IFREG | 0o444, content, owner)
    entry.st_nlink = node.names
    return entry


def status_attributes(inode: int, now_ns: int, owner: Owner) -> pyfuse3.EntryAttributes:
    """Return the attributes of `.lazyfs` and of `.lazyfs/status.json`."""
    if inode == STATUS_DIRECTORY:
        return _entry(inode, stat.S_IFDIR | 0o555, (0, now_ns), owner)
    entry = _entry(inode, stat.S_IFREG | 0o444, (STATUS_BYTES, now_ns), owner)
    entry.attr_timeout = 0
    return entry


def missing() -> pyfuse3.EntryAttributes:
    """Return what says "there is no such name, and there never will be"."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = FOREVER_S
    return entry


def _entry(inode: int, mode: int, content: tuple[int, int], owner: Owner) -> pyfuse3.EntryAttributes:
    """Return an entry; `content` is its size in bytes and when it was modified, in nanoseconds."""
    size_bytes, modified_ns = content
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(inode)
    entry.st_mode = pyfuse3.ModeT(mode)
    entry.st_nlink = 2 if stat.S_ISDIR(mode) else 1
    entry.st_uid, entry.st_gid = owner
    entry.st_size = size_bytes
    entry.st_blksize = READ_BYTES
    entry.st_blocks = -(-size_bytes // 512)
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = modified_ns
    entry.entry_timeout = entry.attr_timeout = FOREVER_S
    return entry
