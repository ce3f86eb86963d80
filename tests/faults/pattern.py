"""Bytes of any length that nobody has to keep: every word says which file it is of, and where in it.

So a model of gigabytes takes no disk and no memory, whoever reads can tell for any piece of it whether it is
right, and a piece of another place, of another file, of zeros or of two versions is wrong in every word.
"""

from dataclasses import dataclass

import numpy as np

WORD_BYTES = 8
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Multiplying by an odd number maps words to words one to one, so no two places have the same."""


@dataclass(frozen=True)
class Pattern:
    """The bytes of file number `seed`, `size_bytes` long."""

    seed: int
    size_bytes: int

    def __len__(self) -> int:
        return self.size_bytes

    def __getitem__(self, part: slice) -> bytes:
        """Return some bytes; the step is always 1."""
        start, stop, _ = part.indices(self.size_bytes)
        return bytes(self.view(start, max(start, stop)))

    def view(self, start: int, stop: int) -> memoryview:
        """Return the bytes from `start` up to `stop`, which lie within the file."""
        first, last = start // WORD_BYTES, -(-stop // WORD_BYTES)
        words = np.arange(first, last, dtype=np.uint64)
        words += np.uint64(self.seed << 40)
        words *= _ODD
        return memoryview(words.view(np.uint8).data)[start - first * WORD_BYTES : stop - first * WORD_BYTES]

    def matches(self, start: int, content: bytes | memoryview) -> bool:
        """Tell whether `content` is what lies at `start`."""
        if start + len(content) > self.size_bytes:
            return False
        if not content:
            return True
        expected = np.frombuffer(self.view(start, start + len(content)), np.uint8)
        return bool(np.array_equal(expected, np.frombuffer(content, np.uint8)))
