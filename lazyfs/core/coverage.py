"""Which bytes of an object have been taken, in any order, some twice. Pure."""

from bisect import bisect_left

from lazyfs.core.blob import ByteRange


class Coverage:
    """A set of bytes, as the ranges it consists of."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, span: ByteRange) -> None:
        """Put the bytes of a range into the set."""
        first = bisect_left(self._stops, span.start)
        last = first
        start, stop = span.start, span.stop
        while last < len(self._starts) and self._starts[last] <= span.stop:
            start, stop = min(start, self._starts[last]), max(stop, self._stops[last])
            last += 1
        self._starts[first:last], self._stops[first:last] = [start], [stop]

    def holds(self, span: ByteRange) -> bool:
        """Tell whether every byte of a range is in the set."""
        at = bisect_left(self._stops, span.stop)
        return not span.size_bytes or (at < len(self._starts) and self._starts[at] <= span.start)
