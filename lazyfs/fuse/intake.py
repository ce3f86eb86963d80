"""Where requests are read to from the kernel, and who remembers those that are not answered yet.

A worker may die with requests it has taken. A kernel of 6.9 or later sends them again when it is asked to
(`session`), and needs no help: `Intake`. For an older one they are read into memory that outlives the worker,
each into a slot of its own, and stay there until the reply has been written: `RememberingIntake`. The next
worker finds them there. Between "taken" and "remembered" is nothing: the kernel writes into the slot itself.
"""

import mmap
import os
import struct
from collections.abc import Iterable, Iterator

from lazyfs.fuse import wire

SLOT_BYTES = 512
"""The longest request of a read-only file system has a name of 255 bytes behind two headers."""
SLOTS, REGIONS = 2048, 8
"""Slots of one worker, and workers that may have slots at once: one serves, one comes, others are leaving."""
TABLE_BYTES = SLOT_BYTES * SLOTS * REGIONS
"""Of address space: what was never written to takes no memory."""
_LENGTH = struct.Struct("=I")
"""A request begins with its length. Zero: the slot is free."""


class Intake:
    """A buffer. For a kernel that remembers."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(wire.REQUEST_BYTES_MAX))

    def buffers(self) -> list[memoryview]:
        """Return where to read the next request to."""
        return [self._buffer]

    def took(self, length: int) -> memoryview:
        """Say that a request of so many bytes has been read; return it."""
        return self._buffer[:length]

    def spoilt(self) -> None:
        """Say that reading failed."""

    def answered(self, unique: int) -> None:
        """Say that a request needs no answer, or has it. From any thread."""

    def left(self, regions: Iterable[int]) -> Iterator[memoryview]:
        """Yield what workers that are gone have left unanswered; it is ours from now on."""
        del regions
        return iter(())


class RememberingIntake(Intake):
    """Slots in a file of memory that the supervisor holds: one region of it is ours."""

    def __init__(self, table: int, region: int) -> None:
        """`table` is the file's descriptor, of `TABLE_BYTES`."""
        super().__init__()
        self._view = memoryview(mmap.mmap(table, TABLE_BYTES))
        self._own = range(region * SLOTS * SLOT_BYTES, (region + 1) * SLOTS * SLOT_BYTES)
        self._free = [place for place in reversed(self._slots(region)) if not self._length(place)]
        self._found = tuple(place for place in self._slots(region) if self._length(place))
        """What was left in our own region, by one that had it before."""
        self._place_of: dict[int, int] = {}
        self._reading: int | None = None

    @staticmethod
    def _slots(region: int) -> range:
        return range(region * SLOTS * SLOT_BYTES, (region + 1) * SLOTS * SLOT_BYTES, SLOT_BYTES)

    def _length(self, place: int) -> int:
        (length,) = _LENGTH.unpack_from(self._view, place)
        return int(length)

    def buffers(self) -> list[memoryview]:
        """Return a free slot, and what room the kernel insists on; without a slot nothing is remembered."""
        if self._reading is None:
            if not self._free:
                return [self._buffer]
            # Taken out now: other threads put some back meanwhile.
            self._reading = self._free.pop()
        return [self._view[self._reading : self._reading + SLOT_BYTES], self._buffer]

    def took(self, length: int) -> memoryview:
        """Say that a request of so many bytes has been read; return it."""
        place = self._reading
        if place is None:
            return self._buffer[:length]
        message = self._view[place : place + min(length, SLOT_BYTES)]
        if length > SLOT_BYTES:  # not on a read-only file system; what is half remembered would be no use
            message = memoryview(bytearray(bytes(message) + self._buffer[: length - SLOT_BYTES]))
            self.spoilt()
            return message
        self._reading = None
        self._place_of[wire.request(message).unique] = place
        return message

    def spoilt(self) -> None:
        """Say that reading failed."""
        if self._reading is not None:
            _LENGTH.pack_into(self._view, self._reading, 0)

    def answered(self, unique: int) -> None:
        """Say that a request needs no answer, or has it. From any thread."""
        place = self._place_of.pop(unique, None)
        if place is not None:
            _LENGTH.pack_into(self._view, place, 0)
            if place in self._own:
                self._free.append(place)

    def left(self, regions: Iterable[int]) -> Iterator[memoryview]:
        """Yield what workers that are gone have left unanswered; it is ours from now on."""
        for place in (*self._found, *(place for region in regions for place in self._slots(region))):
            length = self._length(place)
            if length:
                message = self._view[place : place + length]
                unique = wire.request(message).unique
                if unique not in self._place_of:
                    self._place_of[unique] = place
                    yield message
        self._found = ()


def make_table() -> int:
    """Return a file of memory for all workers of a mount."""
    fd = os.memfd_create("lazyfs-requests", os.MFD_CLOEXEC)
    os.ftruncate(fd, TABLE_BYTES)
    return fd
