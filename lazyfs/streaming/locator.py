"""Locations, asked for once: kept until they expire or are refused, renewed by one asker for all waiters."""

import time
from collections.abc import Callable

import trio

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location

MARGIN_S = 60.0
"""A location is renewed this long before it expires: a block may take that long to arrive."""

_threads = trio.CapacityLimiter(4)


class Locator:
    """Caches `Source.locate`, which blocks and so runs in a thread."""

    def __init__(self, blobs: dict[int, BlobRef], locate: Callable[[BlobRef], Location]) -> None:
        self._blobs = blobs
        self._locate = locate
        self._known: dict[int, Location] = {}
        self._asking: dict[int, trio.Event] = {}

    async def current(self, inode: int) -> Location:
        """Return a location that is good for a while.

        Raises:
            LazyfsError: whatever the source raises.

        """
        while True:
            # After every await, look again: another task may have asked meanwhile.
            known = self._known.get(inode)
            if known is not None and known.fresh(time.time(), MARGIN_S):
                return known
            asking = self._asking.get(inode)
            if asking is not None:
                await asking.wait()
                continue
            asking = self._asking[inode] = trio.Event()
            try:
                self._known[inode] = await trio.to_thread.run_sync(
                    self._locate, self._blobs[inode], abandon_on_cancel=True, limiter=_threads
                )
            finally:
                del self._asking[inode]
                asking.set()
            return self._known[inode]

    def refuse(self, inode: int, location: Location) -> None:
        """Say that `location` was refused: unless it has been renewed already, it will be."""
        if self._known.get(inode) is location:
            del self._known[inode]
