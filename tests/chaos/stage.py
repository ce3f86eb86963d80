"""A mount of a bucket that misbehaves, to be read by a crowd.

How much, how long and by which seed is in the environment: ``SEED`` (it is printed), ``SECONDS`` of random
chaos, ``KILLS`` of workers, ``READS`` under mixes of faults, ``STALLS``, ``READERS`` at once, ``MODEL_MB``
under a memory limit. Without them a test takes some seconds, by a seed that is always the same. Times are
printed and never asserted: they are the machine's as well. docs/reliability.md has what `make chaos` printed.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.crowd import Crowd
from tests.chaos.reading import PROBE
from tests.e2e.mounting import Mount, mounted
from tests.faults.bucket import FaultBucket
from tests.faults.pattern import Pattern

BLOCK = 1 << 20


def number(name: str, otherwise: int) -> int:
    """Return a setting from the environment."""
    return int(os.environ.get(name) or otherwise)


def seed() -> int:
    """Return the seed of this run, and print it."""
    found = number("SEED", 1)
    print(f"\nSEED={found}")
    return found


def model(shards: int, shard_bytes: int) -> dict[str, Pattern]:
    """Return a model by its files' names, with a file for the probe."""
    files = {f"model-{n:03d}.safetensors": Pattern(n, shard_bytes + n * 1000) for n in range(1, shards + 1)}
    return {**files, PROBE: Pattern(900, 256 << 10)}


@dataclass
class Stage:
    """What a test plays with."""

    bucket: FaultBucket
    mount: Mount
    cache: Path

    @contextmanager
    def read_by(self, kinds: list[str], seed: object, count: int | None = None) -> Iterator[Crowd]:
        """Have a crowd read for the length of a block."""
        crowd = Crowd(self.mount.path, kinds, seed, count)
        try:
            yield crowd
        finally:
            crowd.close()

    def held(self) -> tuple[int, int]:
        """Return how many descriptors the process that holds the mount has, and how many children."""
        return len(os.listdir(f"/proc/{self.mount.process.pid}/fd")), len(self.mount.children())

    def settles_at(self, held: tuple[int, int]) -> None:
        """Wait until nothing more is held than before."""
        deadline_s = time.monotonic() + 60
        while (now := self.held()) != held:
            assert time.monotonic() < deadline_s, f"{now} descriptors and children; before {held}"
            time.sleep(0.05)


@contextmanager
def staged(
    root: Path, files: dict[str, Pattern], *options: object, cache: Path | None = None, **how: object
) -> Iterator[Stage]:
    """Serve `files` and mount them for the length of a block."""
    bucket = FaultBucket(files)
    cache = cache or root / "cache"
    try:
        with mounted(
            bucket.address, root / "mnt", "--cache-dir", cache, *options, env=bucket.environment, **how
        ) as mount:  # type: ignore[arg-type]
            yield Stage(bucket, mount, cache)
    finally:
        bucket.close()
