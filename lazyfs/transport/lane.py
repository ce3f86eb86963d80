"""A lane: what one fetching thread at a time reads through, whatever kind of location it is sent to."""

from collections.abc import Callable

from lazyfs.core.location import Location
from lazyfs.transport import local
from lazyfs.transport.connection import Patience
from lazyfs.transport.ranges import RangeReader, Receipt, Wanted


class Lane:
    """One lane with its keep-alive connections; the place where hedging will pick a second one."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._ranges = RangeReader(patience)

    def fetch(
        self, location: Location, wanted: Wanted, into: memoryview, landed: Callable[[int], None]
    ) -> Receipt:
        """Read `wanted` from `location` into `into`, or raise (see `RangeReader.fetch`)."""
        if location.url.startswith("file:"):
            return local.fetch(location, wanted, into, landed)
        return self._ranges.fetch(location, wanted, into, landed)

    def close(self) -> None:
        """Close the lane's connections."""
        self._ranges.close()
