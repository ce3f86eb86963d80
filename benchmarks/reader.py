"""What loads the model, in processes of its own, as the loaders do that people use (`READERS`).

Started before the clock, it imports what it needs and waits for the directory to answer. Everything is copied
into memory that is there already, like the parameters of an engine, and summed up.
Run: `python -m benchmarks.reader DIRECTORY [READER]`; prints a JSON object of times (seconds of the monotonic
clock) and the checksum of everything read, which is the same for every reader that reads the same pieces.
"""

import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from lazyfs.core.plan import natural_key
from lazyfs.core.safetensors import LENGTH_BYTES, Tensor, header_length, parse

POLL_S = 0.002
GIVE_UP_S = 300.0
PIECE_BYTES_MAX = 64 << 20

Piece = tuple[Path, int, int]
"""A file, and the bytes of it that are read at once."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads what: pieces of a directory for one of several ranks, by threads, mapped or read."""

    pieces: Callable[[Path, int, int], Iterator[Piece]]
    ranks: int = 1
    threads: int = 1
    flags: int | None = None
    """For reads, flags of open(2); None maps the file."""


def load(directory: Path, reader: Reader, rank: int) -> dict[str, float | int]:
    """Wait for the directory and read this rank's pieces of it."""
    local = threading.local()
    first_s: list[float] = []

    def copy(piece: Piece) -> int:
        if not hasattr(local, "target"):
            local.target = _memory()
        path, start, stop = piece
        target = local.target[: stop - start]
        if reader.flags is None:
            np.copyto(np.frombuffer(target, np.uint8), np.memmap(path, np.uint8, mode="r")[start:stop])
        else:
            _read(path, reader.flags, start, target)
        first_s.append(time.monotonic())
        return xxhash.xxh3_64_intdigest(target)

    local.target = _memory()
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    wait_for(directory / "config.json")
    ready_s, checksum = time.monotonic(), 0
    pieces = reader.pieces(directory, rank, reader.ranks)
    if reader.threads == 1:
        for piece in pieces:
            checksum ^= copy(piece)
    else:
        with ThreadPoolExecutor(reader.threads) as threads:
            for digest in threads.map(copy, pieces):
                checksum ^= digest
    return {"ready": ready_s, "first": first_s[0], "last": time.monotonic(), "checksum": checksum}


def _memory() -> memoryview:
    """Return page-aligned memory that has been touched."""
    buffer = mmap.mmap(-1, PIECE_BYTES_MAX)
    np.frombuffer(buffer, np.uint8)[:] = 1
    return memoryview(buffer)


def _read(path: Path, flags: int, start: int, target: memoryview) -> None:
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        filled = 0
        while filled < len(target):
            got = os.preadv(fd, [target[filled:]], start + filled)
            assert got, f"{path} is too short"
            filled += got
    finally:
        os.close(fd)


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
            yield (
                shard,
                tensor.span.start + size * rank // ranks,
                tensor.span.start + size * (rank + 1) // ranks,
            )


def chunks(size_bytes: int) -> Callable[[Path, int, int], Iterator[Piece]]:
    """Return what yields all shards in pieces of one size."""

    def found(directory: Path, _rank: int, _ranks: int) -> Iterator[Piece]:
        for shard in shards(directory):
            whole = shard.stat().st_size
            for start in range(0, whole, size_bytes):
                yield shard, start, min(start + size_bytes, whole)

    return found


READERS = {
    "mmap": Reader(tensors),  # vLLM's default
    "tp4": Reader(slices, ranks=4),  # four tensor-parallel ranks
    "transformers": Reader(tensors, threads=4),
    "pread": Reader(chunks(16 << 20), threads=8, flags=0),  # Run:ai's streamer, fastsafetensors
    "direct": Reader(chunks(8 << 20), flags=os.O_DIRECT),
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


if __name__ == "__main__":
    place, name, rank_ = sys.argv[1:]
    sys.stdout.write(json.dumps(load(Path(place), READERS[name], int(rank_))) + "\n")
