"""A lane: what one fetching thread at a time reads through, whatever kind of location it is sent to."""

from collections.abc import Callable

from lazyfs.core.location import Location
from lazyfs.transport import local
from lazyfs.transport.connection import Patience
from lazyfs.transport.ranges import RangeReader, Receipt, Wanted
from lazyfs.transport.whole import Wholes


class Lane:
    """One lane with its keep-alive connections."""

    def __init__(self, patience: Patience | None = None, wholes: Wholes | None = None) -> None:
        self._ranges = RangeReader(patience, wholes)

    def fetch(
        self, location: Location, wanted: Wanted, into: memoryview, landed: Callable[[int], None]
    ) -> Receipt:
        """Read `wanted` from `location` into `into`, or raise (see `RangeReader.fetch`)."""
        if location.url.startswith("file:"):
            return local.fetch(location, wanted, into, landed)
        return self._ranges.fetch(location, wanted, into, landed)

    @property
    def received_bytes(self) -> int:
        """Bytes that have come over the network, whatever became of them."""
        return self._ranges.received_bytes

    @property
    def unread(self) -> bool:
        """Whether bytes have come that the lane's thread has not got round to receive; for other threads."""
        return self._ranges.unread

    @property
    def ended(self) -> bool:
        """Whether the lane is of no more use."""
        return self._ranges.ended

    def end(self) -> None:
        """Have what is being fetched fail now, and everything after it at once; for other threads.

        A file that is being read is left alone.
        """
        self._ranges.end()

    def close(self) -> None:
        """Close the lane's connections."""
        self._ranges.close()
