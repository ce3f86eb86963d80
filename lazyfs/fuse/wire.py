"""The little of the FUSE protocol that is spoken here directly (linux/fuse.h); pyfuse3 speaks the rest. Pure.

All fields are in the machine's own byte order, as the kernel has them.
"""

import errno
import struct
from dataclasses import dataclass

FORGET, READ, INIT, READDIR, INTERRUPT, BATCH_FORGET, READDIRPLUS = 2, 15, 26, 28, 36, 42, 44

_IN_HEADER = struct.Struct("=IIQQIIIHH")
_READ_IN = struct.Struct("=QQI")
_OUT_HEADER = struct.Struct("=IiQ")
_UNIQUE = struct.Struct("=Q")
_SIZE = struct.Struct("=I")
_BACKGROUND = struct.Struct("=HH")

ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN})
"""What read(2) and write(2) fail with once a connection has ended (fs/fuse/dev.c).

ECONNABORTED: it was aborted while a request was being read, or at any time if the reply to INIT has
FUSE_ABORT_ERROR.
"""
REQUEST_BYTES_MAX = (1 << 20) + (1 << 16)
"""The kernel insists on room for the largest write it could send, and its header."""
OUT_HEADER_BYTES = _OUT_HEADER.size
_READ_SIZE_AT = _IN_HEADER.size + 16
_FLAGS_AT = OUT_HEADER_BYTES + 12
"""In the reply to INIT, after major, minor and max_readahead."""
_FLAGS = struct.Struct("=I")
_BACKGROUND_AT = _FLAGS_AT + _FLAGS.size
"""After the flags: max_background, congestion_threshold."""
_ASYNC_DIO = 1 << 15
_INIT_IN = struct.Struct("=IIIII")
"""major, minor, max_readahead, flags, flags2."""
_INIT_EXT, _HAS_RESEND = 1 << 30, 1 << (39 - 32)
"""FUSE_INIT_EXT says that there are flags2; FUSE_HAS_RESEND is the 40th flag."""
_NOTIFY_RESEND = 7
_RESENT = 1 << 63
"""Set in the `unique` of a request that is sent again."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    opcode: int
    unique: int
    pid: int


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What a READ asks for. Our file handles are inode numbers."""

    handle: int
    offset: int
    size: int


def request(message: memoryview) -> Request:
    """Read the head of a request."""
    _, opcode, unique, _, _, _, pid, _, _ = _IN_HEADER.unpack_from(message)
    return Request(opcode, unique, pid)


def first_unique(unique: int) -> int:
    """Return what a request was called when it was sent first."""
    return unique & ~_RESENT


def read_request(message: memoryview) -> ReadRequest:
    """Read the body of a READ."""
    return ReadRequest(*_READ_IN.unpack_from(message, _IN_HEADER.size))


def interrupted(message: memoryview) -> int:
    """Return which request an INTERRUPT is about."""
    unique: int = _UNIQUE.unpack_from(message, _IN_HEADER.size)[0]
    return unique


def limit_size(message: bytearray | memoryview, size_max: int) -> None:
    """Make a READDIR or READDIRPLUS ask for no more than `size_max` bytes."""
    (size,) = _SIZE.unpack_from(message, _READ_SIZE_AT)
    _SIZE.pack_into(message, _READ_SIZE_AT, min(size, size_max))


def reply_header(unique: int, content_bytes: int) -> bytes:
    """Return what goes before the content of a reply."""
    return _OUT_HEADER.pack(OUT_HEADER_BYTES + content_bytes, 0, unique)


def error_reply(unique: int, errno: int) -> bytes:
    """Return a reply that is an error."""
    return _OUT_HEADER.pack(OUT_HEADER_BYTES, -errno, unique)


def reply_unique(message: bytes | memoryview) -> int:
    """Return which request a reply is for."""
    unique: int = _OUT_HEADER.unpack_from(message)[2]
    return unique


def content_of(reply: bytes) -> bytes:
    """Return a reply without its header, which names the request."""
    return reply[OUT_HEADER_BYTES:]


def offers_resend(init: bytes) -> bool:
    """Tell whether the kernel that sent this INIT knows FUSE_NOTIFY_RESEND (6.9 and later)."""
    if len(init) < _IN_HEADER.size + _INIT_IN.size:
        return False
    *_, flags, flags2 = _INIT_IN.unpack_from(init, _IN_HEADER.size)
    return bool(flags & _INIT_EXT and flags2 & _HAS_RESEND)


def resend_notification() -> bytes:
    """Return what asks the kernel to send again whatever has been taken and not answered.

    Such a request comes with the highest bit of its `unique` set; the reply must have it too.
    """
    return _OUT_HEADER.pack(OUT_HEADER_BYTES, _NOTIFY_RESEND, 0)


def adjust_init(reply: bytes, max_background: int) -> bytes:
    """Return the reply to INIT as we want it; an error stays as it is.

    Room for so many background requests: page cache reads, page faults too, are background requests, and the
    kernel's default of 12 would let 12 slow ones keep every other reader from being heard.

    No asynchronous direct I/O: it would make direct reads background requests as well, whose readers wait in
    the kernel unkillably (fuse_direct_IO), and for which no INTERRUPT is sent.
    """
    if len(reply) < _BACKGROUND_AT + _BACKGROUND.size:
        return reply
    changed = bytearray(reply)
    (flags,) = _FLAGS.unpack_from(changed, _FLAGS_AT)
    _FLAGS.pack_into(changed, _FLAGS_AT, flags & ~_ASYNC_DIO)
    _BACKGROUND.pack_into(changed, _BACKGROUND_AT, max_background, max_background * 3 // 4)
    return bytes(changed)
