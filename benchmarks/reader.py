"""What loads the model, in a process of its own.

Like vLLM it goes file by file in natural order; each tensor is mapped and copied into memory that is there
already. Started before the clock, it imports what it needs and waits for the directory to answer.
Run: `python -m benchmarks.reader DIRECTORY`; prints a JSON object of times (seconds of the monotonic clock)
and the checksum of everything read.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import xxhash

from lazyfs.core.safetensors import LENGTH_BYTES, Tensor, header_length, parse

POLL_S = 0.002
GIVE_UP_S = 300.0
TENSOR_BYTES_MAX = 64 << 20


def natural(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(1, int(part)) if place % 2 else (0, part) for place, part in enumerate(parts)]


def load(directory: Path) -> dict[str, float | str]:
    # Where the tensors go: there and touched before, like the parameters of an engine.
    target = np.ones(TENSOR_BYTES_MAX, np.uint8)
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    wait_for(directory / "config.json")
    ready = time.monotonic()
    first, checksum = 0.0, 0
    for shard in sorted(directory.glob("*.safetensors"), key=natural):
        mapped = np.memmap(shard, np.uint8, mode="r")
        for tensor in tensors(shard):
            copy = target[: tensor.span.size_bytes]
            np.copyto(copy, mapped[tensor.span.start : tensor.span.stop])
            checksum ^= xxhash.xxh3_64_intdigest(copy.data)
            first = first or time.monotonic()
    return {"ready": ready, "first": first, "last": time.monotonic(), "checksum": f"{checksum:016x}"}


def tensors(shard: Path) -> list[Tensor]:
    """Return a shard's tensors in the order of their names, as safetensors gives them."""
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
    sys.stdout.write(json.dumps(load(Path(sys.argv[1]))) + "\n")
