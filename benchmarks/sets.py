"""The series that are measured together, and the ones of growing models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import PHASES
from benchmarks.models import Shape
from benchmarks.series import Setting, measure

LAYER_MB, REST_MB = 121.6, 131.1
"""A layer in BF16, and the embedding."""

FEW = ("lazyfs", "s5cmd", "disk")
MAIN = {
    "s3-mmap": Setting("s3", "mmap", phases=PHASES),
    "slow-mmap": Setting("slow", "mmap", systems=("lazyfs", "s5cmd", "boto3", "rclone", "s3fs", "runai")),
}
READERS_TOO = {
    "s3-tp4": Setting("s3", "tp4", phases=PHASES),
    "s3-transformers": Setting("s3", "transformers", systems=FEW, phases=PHASES),
    "s3-pread": Setting("s3", "pread", phases=PHASES),
    "s3-direct": Setting("s3", "direct", systems=FEW, phases=PHASES),
    "s3-random": Setting("s3", "random", systems=("lazyfs", "rclone", "s3fs", "disk"), phases=PHASES),
    "s3-headers": Setting(
        "s3", "headers", systems=("lazyfs", "rclone", "s3fs", "disk"), shape=Shape(shards=16)
    ),
}
LINKS_TOO = {
    "unshaped-mmap": Setting("unshaped", "mmap"),
    "unshaped-tp4": Setting("unshaped", "tp4"),
    "wan-mmap": Setting("wan", "mmap"),
    "slow-tp4": Setting("slow", "tp4", systems=("lazyfs", "s5cmd", "rclone")),
}
MODELS_TOO = {
    "s3-mixed": Setting(
        "s3", "mmap", systems=("lazyfs", "s5cmd", "rclone", "runai"), shape=Shape("mixed", 32)
    ),
    "s3-pull": Setting("s3", "mmap", systems=("lazyfs-pull", "s5cmd", "boto3"), shape=Shape(shards=8)),
    "s3-single": Setting("s3", "mmap", systems=("lazyfs", "s5cmd", "rclone", "runai"), shape=Shape("single")),
}
SETS: dict[str, dict[str, Setting]] = {
    "main": MAIN,
    "readers": READERS_TOO,
    "links": LINKS_TOO,
    "models": MODELS_TOO,
    "all": MAIN | READERS_TOO | LINKS_TOO | MODELS_TOO,
}


def grow(base: Setting, sizes: list[tuple[int, int]], work: Path | None) -> dict[str, Any]:
    """Measure one series for each size in GB and number of shards; return them as points of one document."""
    points = []
    for size_gb, shards in sizes:
        layers = max(1, round((size_gb * 1000 - REST_MB) / LAYER_MB))
        points.append(measure(replace(base, shape=Shape("sharded", layers, shards)), work))
    return {"profile": base.profile, "reader": base.reader, "points": points}
