"""What loads the model, in processes of its own, as the loaders do that people use (`READERS`).

Started before the clock, it imports what it needs, says `waiting`, and after a line on standard input waits
for the directory to answer. Everything is copied into memory that is there already, like the parameters of an
engine, and summed up. Run: `python -m benchmarks.readers DIRECTORY READER RANK`; prints one JSON object
(`Sheet.result`). The checksum is the same for every system, whose ranks and threads may come in any order.
"""

import json
import mmap
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from lazyfs.core.plan import natural_key
from lazyfs.core.safetensors import LENGTH_BYTES, Tensor, header_length, parse

POLL_S = 0.002
GIVE_UP_S = 300.0
PIECE_BYTES_MAX = 64 << 20
SECTOR_BYTES = 4096
RANDOM_COUNT = 1000
RANDOM_BYTES = 4096

Piece = tuple[Path, int, int]
"""A file, and the bytes of it that are read at once."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads what: pieces of a directory for one of several ranks, by threads, mapped or read."""

    pieces: Callable[[Path, int, int], Iterator[Piece]]
    about: str
    ranks: int = 1
    threads: int = 1
    flags: int | None = None
    """For reads, flags of open(2); None maps the file."""


@dataclass(slots=True)
class Sheet:
    """What a reader writes down: when (seconds of the monotonic clock), how much, and the sum of it."""

    first_s: float = 0.0
    checksum: int = 0
    read_bytes: int = 0
    piece_s: list[float] = field(default_factory=list)
    """How long each piece took."""

    def add(self, digest: int, size_bytes: int, started_s: float, ended_s: float) -> None:
        """Note one piece that has been copied."""
        self.first_s = min(self.first_s or ended_s, ended_s)
        self.checksum = (self.checksum + digest) % 2**64
        self.read_bytes += size_bytes
        self.piece_s.append(ended_s - started_s)

    def result(self, ready_s: float) -> dict[str, float | int]:
        """Return it all, ending now."""
        ordered = sorted(self.piece_s) or [0.0]
        return {
            "ready": ready_s,
            "first": self.first_s,
            "last": time.monotonic(),
            "checksum": self.checksum,
            "bytes": self.read_bytes,
            "piece_p50_s": ordered[len(ordered) // 2],
            "piece_p99_s": ordered[len(ordered) * 99 // 100],
        }


def desks(count: int) -> "queue.SimpleQueue[memoryview]":
    """Return page-aligned memory for the largest piece, so often, that has been touched before the clock."""
    free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    for _ in range(count):
        buffer = mmap.mmap(-1, PIECE_BYTES_MAX)
        np.frombuffer(buffer, np.uint8)[:] = 1
        free.put(memoryview(buffer))
    return free


def load(directory: Path, reader: Reader, rank: int) -> dict[str, float | int]:
    """Wait for the word and the directory, and read this rank's pieces of it."""
    free, sheet, lock = desks(reader.threads), Sheet(), threading.Lock()
    maps: dict[Path, np.memmap] = {}

    def copy(piece: Piece) -> None:
        path, start, stop = piece
        desk = free.get()
        target = desk[: stop - start]
        started_s = time.monotonic()
        if reader.flags is None:
            if path not in maps:
                maps[path] = np.memmap(path, np.uint8, mode="r")
            np.copyto(np.frombuffer(target, np.uint8), maps[path][start:stop])
        else:
            _read(path, reader.flags, start, desk, len(target))
        ended_s = time.monotonic()
        digest = xxhash.xxh3_64_intdigest(target)
        free.put(desk)
        with lock:
            sheet.add(digest, len(target), started_s, ended_s)

    wait_for_word()
    wait_for(directory / "config.json")
    ready_s = time.monotonic()
    pieces = whole(reader.pieces(directory, rank, reader.ranks))
    if reader.threads == 1:
        for piece in pieces:
            copy(piece)
    else:
        with ThreadPoolExecutor(reader.threads) as threads:
            list(threads.map(copy, pieces))
    return sheet.result(ready_s)


def wait_for_word() -> None:
    """Say that all is prepared, and wait for a line: the clock has started."""
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _read(path: Path, flags: int, start: int, desk: memoryview, size_bytes: int) -> None:
    """Read into the beginning of `desk`; O_DIRECT wants whole sectors, also at the end of a file."""
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        filled, asked = 0, -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
        while filled < size_bytes:
            got = os.preadv(fd, [desk[filled:asked]], start + filled)
            assert got, f"{path} is too short"
            filled += got
    finally:
        os.close(fd)


def whole(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Yield pieces, the larger ones in parts that fit the memory for them."""
    for path, start, stop in pieces:
        for begin in range(start, stop, PIECE_BYTES_MAX):
            yield path, begin, min(begin + PIECE_BYTES_MAX, stop)


def tensors(directory: Path, _rank: int, _ranks: int) -> Iterator[Piece]:
    """Yield every tensor, shard after shard in natural order, by name, as safetensors gives them."""
    for shard in shards(directory):
        for tensor in layout(shard):
            yield shard, tensor.span.start, tensor.span.stop


def slices(directory: Path, rank: int, ranks: int) -> Iterator[Piece]:
    """Yield this rank's share of the rows of every tensor."""
    for shard in shards(directory):
        for tensor in layout(shard):
            size = tensor.span.size_bytes
            start, stop = (tensor.span.start + size * edge // ranks for edge in (rank, rank + 1))
            yield shard, start, stop


def headers(directory: Path, _rank: int, _ranks: int) -> Iterator[Piece]:
    """Yield the header of every shard: what an engine reads before any weight."""
    for shard in shards(directory):
        with shard.open("rb") as file:
            yield shard, 0, LENGTH_BYTES + header_length(file.read(LENGTH_BYTES), shard.stat().st_size)


def scattered(directory: Path, _rank: int, _ranks: int) -> Iterator[Piece]:
    """Yield small pieces all over the model, the same ones every time."""
    found = [(shard, shard.stat().st_size) for shard in shards(directory)]
    chance = random.Random(1)
    for shard, size in chance.choices(found, [size for _, size in found], k=RANDOM_COUNT):
        start = chance.randrange(max(1, size // RANDOM_BYTES)) * RANDOM_BYTES
        yield shard, start, min(start + RANDOM_BYTES, size)


def chunks(size_bytes: int) -> Callable[[Path, int, int], Iterator[Piece]]:
    """Return what yields all shards in pieces of one size."""

    def found(directory: Path, _rank: int, _ranks: int) -> Iterator[Piece]:
        for shard in shards(directory):
            end = shard.stat().st_size
            for start in range(0, end, size_bytes):
                yield shard, start, min(start + size_bytes, end)

    return found


READERS = {
    "mmap": Reader(tensors, "vLLM's default: shard after shard, each tensor mapped and copied"),
    "tp4": Reader(slices, "four tensor-parallel ranks, each its share of the rows of every tensor", ranks=4),
    "transformers": Reader(tensors, "four threads over all tensors, mapped", threads=4),
    "pread": Reader(chunks(16 << 20), "eight threads of 16 MiB reads, as streaming loaders do", 1, 8, 0),
    "direct": Reader(chunks(8 << 20), "one thread of 8 MiB reads with O_DIRECT", flags=os.O_DIRECT),
    "random": Reader(scattered, "1000 reads of 4 KiB all over the model, one after the other", flags=0),
    "headers": Reader(headers, "only the header of every shard", flags=0),
}


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.safetensors"), key=lambda path: natural_key(path.name))


def layout(shard: Path) -> list[Tensor]:
    with shard.open("rb") as file:
        size = shard.stat().st_size
        length = header_length(file.read(LENGTH_BYTES), size)
        return sorted(parse(file.read(length), size).tensors, key=lambda tensor: tensor.name)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not path.exists():
        if time.monotonic() > deadline:
            sys.exit(f"{path} did not appear")
        time.sleep(POLL_S)


def report(result: dict[str, float | int]) -> None:
    """Print a result, and stay until it has been noted what this process took."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    place, name, rank_ = sys.argv[1:]
    report(load(Path(place), READERS[name], int(rank_)))
