"""What a bench reads: ranges of the model's own files."""

import threading
from collections.abc import Sequence

from lazyfs.core.blob import BlobRef, ByteRange
from lazyfs.core.location import Location
from lazyfs.sources import Source
from lazyfs.transport.ranges import Wanted


class Ranges:
    """Ranges of the model's files, one after another, from the start again at the end. For any thread."""

    def __init__(self, source: Source, blobs: Sequence[BlobRef]) -> None:
        self._source = source
        self._blobs = blobs
        self._locations: dict[str, Location] = {}
        self._lock = threading.Lock()
        self._place, self._offset = 0, 0
        self.repeated = False
        """Whether some bytes were handed out twice, and so may have come out of a cache."""

    def take(self, size_bytes: int) -> tuple[Location, Wanted]:
        """Return the next range of at most `size_bytes`, and where it is."""
        with self._lock:
            blob = self._blobs[self._place]
            stop = min(blob.size_bytes, self._offset + size_bytes)
            wanted = Wanted(ByteRange(self._offset, stop), blob.size_bytes)
            self._offset = stop
            if stop == blob.size_bytes:
                self._offset, self._place = 0, (self._place + 1) % len(self._blobs)
                self.repeated |= not self._place
            if blob.name not in self._locations:
                self._locations[blob.name] = self._source.locate(blob)
            return self._locations[blob.name], wanted


def worth_reading(blobs: Sequence[BlobRef], range_bytes: int) -> list[BlobRef]:
    """Return the blobs that hold a whole range; if none does, all that are not empty."""
    return [blob for blob in blobs if blob.size_bytes >= range_bytes] or [b for b in blobs if b.size_bytes]
