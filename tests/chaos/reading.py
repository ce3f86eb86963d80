"""A reader that checks every byte: `python -m tests.chaos.reading DIRECTORY KIND SEED [COUNT]`.

It reads until standard input closes (or COUNT pieces), takes errors down and goes on, and says at last what
it saw, in one line of JSON. The number in a file's name is that of its pattern. What it has read it drops
from the page cache, so that it asks the mount again.
"""

import json
import mmap
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.pattern import Pattern

PAGE = 4096
SLOW_S = 0.05
NOTES_MAX = 300
"""What a reader says at last must fit into a pipe."""
PROBE = "probe-900.bin"
"""A file of one block, for `probe` alone."""
PROBE_S = 0.005

Span = tuple[int, int]


@dataclass
class Sheet:
    """What a reader saw. Times are of the monotonic clock."""

    kind: str
    reads: int = 0
    read_bytes: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)
    """Error numbers, and when."""
    slow: list[tuple[float, float]] = field(default_factory=list)
    """When a read began that took long, and how long."""
    longest_s: float = 0.0

    def took(self, began_s: float, count: int) -> None:
        """Note a read that has come back."""
        took_s = time.monotonic() - began_s
        self.reads += 1
        self.read_bytes += count
        self.longest_s = max(self.longest_s, took_s)
        if took_s >= SLOW_S and len(self.slow) < NOTES_MAX:
            self.slow.append((began_s, took_s))


class File:
    """One open file of the mount and what must be in it."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | flags)
        found = re.search(r"-(\d+)", path.name)
        assert found
        self.pattern = Pattern(int(found[1]), os.fstat(self.fd).st_size)
        self._buffer = mmap.mmap(-1, 16 << 20)

    def read(self, start: int, stop: int) -> memoryview:
        """Read into aligned memory, as O_DIRECT wants it; where less comes than wanted, ask on."""
        length, filled = -(-(stop - start) // PAGE) * PAGE, 0
        with memoryview(self._buffer) as into:
            while filled < stop - start:
                got = os.preadv(self.fd, [into[filled:length]], start + filled)
                if not got:
                    break
                filled += got
        return memoryview(self._buffer)[: min(filled, stop - start)]

    def close(self) -> None:
        """Close it, and have its pages forgotten."""
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self.fd)


def steps(size: int) -> Callable[[int, random.Random], Iterator[Span]]:
    """Return what yields a file in pieces of `size`, from its front to its end."""
    return lambda total, _chance: ((at, min(at + size, total)) for at in range(0, total, size))


def scattered(total: int, chance: random.Random) -> Iterator[Span]:
    """Yield pieces of a page or a few, anywhere."""
    for _ in range(50):
        start = chance.randrange(max(1, total // PAGE)) * PAGE
        yield start, min(start + chance.choice([1, 1, 3, 16, 64]) * PAGE, total)


def strides(total: int, chance: random.Random) -> Iterator[Span]:
    """Yield one rank's quarter of every row of 1 MiB."""
    rank, row = chance.randrange(4), 1 << 20
    for at in range(0, total, row):
        start = min(at + rank * row // 4, total)
        yield start, min(start + row // 4, total)


@dataclass(frozen=True)
class Kind:
    """How a reader reads."""

    spans: Callable[[int, random.Random], Iterator[Span]]
    flags: int = 0
    mapped: bool = False


KINDS = {
    "mmap": Kind(steps(64 << 10), mapped=True),
    "tp4": Kind(strides, mapped=True),
    "pread": Kind(steps(16 << 20)),
    "sequential": Kind(steps(1 << 20)),
    "random": Kind(scattered),
    "direct": Kind(steps(1 << 20), os.O_DIRECT),
    "scattered": Kind(scattered, os.O_DIRECT),
    "probe": Kind(scattered, os.O_DIRECT),
}


class Reader:
    """Reads a directory over and over."""

    def __init__(self, directory: Path, kind: str, seed: str, count: int | None) -> None:
        self._directory = directory
        self._kind, self._how = kind, KINDS[kind]
        self._chance = random.Random(f"{kind} {seed}")
        self._left = count
        self.sheet = Sheet(kind)
        self.over = threading.Event()

    def run(self) -> None:
        """Read until it is over."""
        if self._kind == "probe":
            self._probe()
            return
        while not self.over.is_set():
            names = sorted(path.name for path in self._directory.glob("*.safetensors"))
            for name in self._chance.sample(names, len(names)):
                if self.over.is_set():
                    return
                self._noting(self._pass, self._directory / name)

    def _noting(self, act: Callable[..., None], *arguments: object) -> None:
        try:
            act(*arguments)
        except OSError as error:
            if len(self.sheet.errors) < NOTES_MAX:
                self.sheet.errors.append((error.errno or 0, time.monotonic()))
            time.sleep(0.01)

    def _pass(self, path: Path) -> None:
        """Read one file, or the places in it that this kind reads."""
        file = File(path, self._how.flags)
        try:
            spans = self._how.spans(len(file.pattern), self._chance)
            if self._how.mapped:
                with mmap.mmap(file.fd, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
                    self._walk(file, spans, lambda start, stop: view[start:stop])
            else:
                self._walk(file, spans, file.read)
        finally:
            file.close()

    def _walk(self, file: File, spans: Iterator[Span], read: Callable[[int, int], memoryview]) -> None:
        for start, stop in spans:
            if self.over.is_set():
                return
            self._noting(self._check, file, start, stop, read)
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    self.over.set()

    def _check(self, file: File, start: int, stop: int, read: Callable[[int, int], memoryview]) -> None:
        began_s = time.monotonic()
        with read(start, stop) as content:
            right = file.pattern.matches(start, content) and len(content) == stop - start
            self.sheet.took(began_s, len(content))
        if not right:
            self.sheet.wrong.append(f"{file.path.name} {start}-{stop}")

    def _probe(self) -> None:
        """Read a page past the page cache every few milliseconds: how long does the mount not answer?"""
        file = File(self._directory / PROBE, os.O_DIRECT)
        while not self.over.wait(PROBE_S):
            start = self._chance.randrange(8) * PAGE
            self._noting(self._check, file, start, start + PAGE, file.read)
        file.close()


def main() -> None:
    """Run one reader; see the module's docstring."""
    directory, kind, seed, *rest = sys.argv[1:]
    reader = Reader(Path(directory), kind, seed, int(rest[0]) if rest else None)

    def end_with_input() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would be in the way of our end
        reader.over.set()

    threading.Thread(target=end_with_input, daemon=True).start()
    print("reading", flush=True)
    with suppress(KeyboardInterrupt):
        reader.run()
    print(json.dumps(asdict(reader.sheet)), flush=True)


if __name__ == "__main__":
    main()
