"""A file system of one's own memory, served as a mount serves: what FUSE can do when nothing else is slow.

Run as a process of its own, for whoever reads a mount must not be the one who serves it:
`python -m lazyfs.bench.synthetic MOUNTPOINT BYTES`. It says MOUNTED, or why it cannot, and ends when its
standard input does; so it never outlives whoever started it.
"""

import os
import sys
from pathlib import Path

import trio

from lazyfs.core.blob import BlobRef, ByteRange
from lazyfs.core.manifest import build
from lazyfs.errors import FuseUnavailable
from lazyfs.fuse.channel import Channel, detach, open_channel
from lazyfs.fuse.content import Content
from lazyfs.fuse.courier import Courier, Handshake
from lazyfs.fuse.operations import Operations
from lazyfs.fuse.session import Session
from lazyfs.telemetry.metrics import Meter

SOURCE = "lazyfs-bench"
FILES = ("fresh", "mapped", "read")
MOUNTED = "mounted"
MEMORY_BYTES = 64 << 20
"""More than fits into most processors' caches: blocks that came from a network do not lie there either."""
READ_BYTES_MAX = 1 << 20


class Memory:
    """Blobs whose bytes are the same memory over and over."""

    def __init__(self) -> None:
        content = os.urandom(READ_BYTES_MAX)
        self._view = memoryview(content * (MEMORY_BYTES // len(content) + 1))

    def read_now(self, _inode: int, span: ByteRange) -> memoryview | bytes:
        """Return bytes at once."""
        start = span.start % MEMORY_BYTES
        return self._view[start : start + span.size_bytes]

    async def read(self, inode: int, span: ByteRange, since_s: float | None) -> memoryview | bytes:
        """Return the same."""
        del since_s
        return self.read_now(inode, span)


def serve(mountpoint: Path, size_bytes: int) -> None:
    """Mount `FILES` of `size_bytes` and serve them until standard input ends.

    Raises:
        FuseUnavailable: when that is not possible here.

    """
    nodes = build(SOURCE, [BlobRef(name, SOURCE, "1", size_bytes) for name in FILES]).nodes()
    meter = Meter()
    content = Content(nodes, Memory(), str)
    channel = open_channel(mountpoint, SOURCE, allow_other=False)
    try:
        _say(MOUNTED)
        trio.run(_run, channel, Operations(nodes, meter, (os.geteuid(), os.getegid())), content, meter)
    finally:
        detach(mountpoint, channel.device)


async def _run(channel: Channel, operations: Operations, content: Content, meter: Meter) -> None:
    async with trio.open_nursery() as nursery:
        session = Session(channel)

        async def agree(reply: bytes) -> tuple[int, ...]:
            await trio.lowlevel.checkpoint()
            session.settle(reply)
            return ()

        async def serving() -> None:
            handshake = Handshake(session.init, agree)
            reads = content.read_now, content.read_later
            await Courier(channel.fd, handshake, operations, *reads, meter).run()
            nursery.cancel_scope.cancel()

        nursery.start_soon(serving)
        await trio.to_thread.run_sync(os.read, 0, 1, abandon_on_cancel=True)
        # First the mount, then who serves it: a reader that is left gets an error and does not wait.
        detach(channel.mountpoint, channel.device)
        nursery.cancel_scope.cancel()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), int(sys.argv[2]))
    except FuseUnavailable as error:
        _say(str(error))
