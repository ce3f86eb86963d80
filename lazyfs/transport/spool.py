"""One object on its way into a file without a name, and out of it again (see `whole.py`)."""

import copy
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lazyfs.core.blob import ByteRange
from lazyfs.core.coverage import Coverage
from lazyfs.errors import (
    BadResponse,
    BlobChanged,
    BlobTorn,
    CacheUnusable,
    LazyfsError,
    SourceUnavailable,
)
from lazyfs.transport.connection import PIECE_BYTES, Reply
from lazyfs.transport.wanted import Wanted

SPENT_S = 20.0
"""A file of which everything has been taken stays for so long: a block may have been lost since."""
UNUSED_S = 600.0
"""So long it stays when nobody takes the rest: as with --policy demand, when a reader pauses."""
LOOK_S = 0.2
"""How often who waits looks whether it still should."""


class Whole:
    """One object on its way into a file, or there."""

    def __init__(self, size_bytes: int, directory: Path | None) -> None:
        self.size_bytes = size_bytes
        self.changed = threading.Condition()
        self.filled_bytes = 0
        """So much of the front is there: of the pinned version, if that is confirmed at the end."""
        self.moved_bytes = 0
        """So much has come, of all streams: a sign of life even when it does not lengthen what is there."""
        self.confirmed = False
        """Whether the server said, when all had come, that this is still the pinned version."""
        self.torn: LazyfsError | None = None
        """Why nothing of what came can be trusted any more."""
        self.error: LazyfsError | None = None
        self.streaming = False
        self.readers = 0
        self.used_at_s = time.monotonic()
        self._taken = Coverage()
        try:
            self._file = tempfile.TemporaryFile(dir=directory, prefix="lazyfs-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _no_room(error) from None

    def write(self, offset: int, content: memoryview) -> None:
        """Put what has come into the file.

        Raises:
            CacheUnusable: when it does not fit.

        """
        try:
            while content:
                written = os.pwrite(self._file.fileno(), content, offset)
                offset, content = offset + written, content[written:]
        except OSError as error:
            raise _no_room(error) from None

    def read(self, offset: int, into: memoryview) -> int:
        """Read what is there from `offset` on, at most a piece; return how much.

        Raises:
            BlobTorn: when what is there may be of two versions.

        """
        if self.torn is not None:
            raise copy.copy(self.torn)
        there = min(len(into), self.given_bytes - offset, PIECE_BYTES)
        return os.preadv(self._file.fileno(), [into[:there]], offset) if there > 0 else 0

    @property
    def given_bytes(self) -> int:
        """So much may be read: the last byte when all that came is confirmed, so that no file ends before."""
        return self.filled_bytes if self.confirmed else min(self.filled_bytes, self.size_bytes - 1)

    def confirm(self) -> None:
        """Say that all that came is of the pinned version."""
        with self.changed:
            self.confirmed = True
            self.changed.notify_all()

    def end(self, error: LazyfsError | None) -> None:
        """Say that a stream has ended, and why if not well."""
        with self.changed:
            if isinstance(error, BlobChanged) and self.filled_bytes and not self.confirmed:
                error = self.torn = BlobTorn(
                    f"{error.cause}; what came before that may be of two versions", error.cure
                )
            self.error, self.streaming = error, False
            self.changed.notify_all()

    def taken(self, span: ByteRange) -> None:
        """Take note of what somebody has got."""
        with self.changed:
            self._taken.add(span)
            self.used_at_s = time.monotonic()

    @property
    def needless(self) -> bool:
        """Whether everything has been taken a while ago, or nobody has taken anything for long."""
        with self.changed:
            spent = self._taken.holds(ByteRange(0, self.size_bytes))
            return time.monotonic() - self.used_at_s > (SPENT_S if spent else UNUSED_S)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _no_room(error: OSError) -> CacheUnusable:
    return CacheUnusable(
        f"the server sends only whole files, and one cannot be kept meanwhile: {error.strerror}",
        "free space where the cache is (--cache-dir; TMPDIR without a cache), or use a server with ranges",
    )


def read_out(
    whole: Whole,
    wanted: Wanted,
    into: memoryview,
    landed: Callable[[int], None],
    given_up: Callable[[], bool],
) -> float | None:
    """Read what is wanted as it comes; return when the first of it was there, None when no stream goes on.

    Whether the stream goes on is its own connection's to tell: here is no other bound than being given up.
    """
    got, first_at_s = 0, time.monotonic()
    while got < len(into):
        count = whole.read(wanted.span.start + got, into[got:])
        if count:
            first_at_s = first_at_s if got else time.monotonic()
            got += count
            landed(got)
            continue
        with whole.changed:
            moved = whole.moved_bytes
            if whole.given_bytes <= wanted.span.start + got and whole.torn is None:
                if whole.error is not None:
                    # A copy each: raising one object in several threads would mix their tracebacks.
                    raise copy.copy(whole.error)
                if not whole.streaming:
                    return None
                whole.changed.wait(LOOK_S)
        if given_up():
            raise SourceUnavailable("the request was given up")
        if whole.moved_bytes != moved:
            landed(got)
    return first_at_s


def receive(reply: Reply, host: str, whole: Whole) -> None:
    """Read a body into the file. One without a length counts when it has ended as it should, not before."""
    piece, received = memoryview(bytearray(PIECE_BYTES)), 0
    while received < whole.size_bytes:
        begun = received

        def came(count: int, begun: int = begun) -> None:
            _came(whole, reply, piece, begun, count)

        got = reply.readinto(piece[: whole.size_bytes - received], came)
        came(got)
        received += got
        if not got or (got < len(piece) and received < whole.size_bytes):
            raise BadResponse(f"{host} ended the body {whole.size_bytes - received} bytes early")
    reply.expect_end()
    with whole.changed:
        whole.filled_bytes = whole.size_bytes
        whole.changed.notify_all()


def _came(whole: Whole, reply: Reply, piece: memoryview, begun: int, count: int) -> None:
    """Write what is new of a piece; what an earlier stream brought is there already."""
    known = max(0, whole.filled_bytes - begun)
    if reply.length is not None and count > known:
        whole.write(begun + known, piece[known:count])
    elif reply.length is None:
        whole.write(begun, piece[:count])
    with whole.changed:
        if reply.length is not None:
            whole.filled_bytes = max(whole.filled_bytes, begun + count)
        whole.moved_bytes += 1
        whole.changed.notify_all()
