"""Loads a model with safetensors and checks every tensor, in a process of its own, as an engine would.

`python -m lazyfs.demo.loading DIRECTORY CHECKSUMS.json` waits for the directory, then prints one JSON object:
when (`time.time()`) the directory answered, the first tensor and the last were there, and which tensors were
wrong.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import xxhash
from safetensors import safe_open

from lazyfs.core.plan import natural_key

POLL_S = 0.005
GIVE_UP_S = 120.0


def checksums(directory: Path) -> dict[str, str]:
    """Return the checksum of every tensor of a model, by name, in the order an engine loads them."""
    found = {}
    for shard in sorted(directory.glob("*.safetensors"), key=lambda path: natural_key(path.name)):
        with safe_open(shard, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                found[name] = _checksum(file.get_tensor(name))
    return found


def _checksum(tensor: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> str:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(tensor).view(np.uint8).data)


def load(directory: Path, expected: dict[str, str]) -> dict[str, object]:
    """Wait for `directory`, load every tensor of it, compare."""
    index = directory / "model.safetensors.index.json"
    deadline_s = time.monotonic() + GIVE_UP_S
    while not index.exists() and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    ready_at_s = time.time()
    weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    first_at_s, wrong = 0.0, []
    for shard in sorted(set(weight_map.values()), key=natural_key):
        with safe_open(directory / shard, framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                if _checksum(file.get_tensor(name)) != expected.get(name):
                    wrong.append(name)
                first_at_s = first_at_s or time.time()
    missing = sorted(expected.keys() - weight_map.keys())
    return {"ready": ready_at_s, "first": first_at_s, "last": time.time(), "wrong": wrong + missing}


if __name__ == "__main__":
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(load(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))) + "\n")
