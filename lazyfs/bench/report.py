"""One bench from beginning to end: what is measured, in which order, and what comes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from lazyfs.bench import ceiling, disk, node
from lazyfs.bench.link import Bounds, Latency, Link, Measurement
from lazyfs.config import BenchOptions, MountOptions, default_cache_dir
from lazyfs.core.advice import FuseRates, Measured, Verdict, judge
from lazyfs.core.concurrency import ENOUGH, MOST
from lazyfs.core.manifest import Manifest
from lazyfs.core.plan import warm_order
from lazyfs.errors import SourceMissing
from lazyfs.mount.snapshot import connect, take
from lazyfs.sources import Source

Tell = Callable[[str], None]
"""Hears what is being done now."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The model, and how long it took to reach and to list it."""

    source: str
    size_bytes: int
    files: int
    list_s: float


@dataclass(frozen=True, slots=True)
class Linked:
    """The link, what measuring it has asked for, and whether some of that was asked for twice."""

    latency: Latency
    curve: tuple[Measurement, ...]
    asked_bytes: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured, and what it means."""

    node: node.Node
    model: Listed
    link: Linked
    cache_dir: str
    disk: disk.Disk | disk.NoDisk
    fuse: ceiling.Ceiling | ceiling.NoCeiling
    seconds: float
    measured: Measured
    verdict: Verdict


def bench(address: str, options: BenchOptions, tell: Tell) -> Report:
    """Measure everything and judge it; nothing is left behind.

    Raises:
        LazyfsError: when the source or the cache directory cannot be used.

    """
    began_s = time.monotonic()
    defaults = MountOptions()
    cache_dir = options.cache_dir or default_cache_dir()
    disk.place(cache_dir)  # before anything is downloaded
    tell(f"Listing {address}")
    connect_began_s = time.monotonic()
    source = connect(address, options)
    try:
        manifest = take(source, address, options)
        listed = Listed(address, manifest.size_bytes, len(manifest.blobs), time.monotonic() - connect_began_s)
        linked = _link(source, manifest, options, defaults.block_size, tell)
    finally:
        source.close()
    here = node.look(ENOUGH, defaults.block_size)
    tell(f"Writing and reading in {cache_dir}")
    disk_found = disk.measure(cache_dir, defaults.block_size, options.seconds)
    tell("Reading through FUSE")
    fuse_found = ceiling.measure(here.memory_limit_bytes, defaults.read_ahead, options.seconds)
    capacity = disk.capacity_bytes(cache_dir)
    found = _measured((listed, linked, here), disk_found, fuse_found, capacity, defaults.block_size)
    seconds = time.monotonic() - began_s
    return Report(here, listed, linked, str(cache_dir), disk_found, fuse_found, seconds, found, judge(found))


def _link(source: Source, manifest: Manifest, options: BenchOptions, block_bytes: int, tell: Tell) -> Linked:
    """Measure the link with the model's files, in the order a mount fetches them."""
    if not manifest.size_bytes:
        raise SourceMissing(f"every file at {manifest.source} is empty", "choose a model to read")
    by_place = dict(enumerate(manifest.blobs))
    blobs = [by_place[place] for place in warm_order(by_place)]
    link = Link(source, blobs, Bounds(options.budget, block_bytes, options.seconds))
    try:
        tell("Asking for first bytes")
        latency = link.latency()
        curve = link.curve(tell)
        return Linked(latency, tuple(curve), link.asked_bytes, link.repeated)
    finally:
        link.close()


def _measured(
    found: tuple[Listed, Linked, node.Node],
    on_disk: disk.Disk | disk.NoDisk,
    fuse: ceiling.Ceiling | ceiling.NoCeiling,
    capacity_bytes: int,
    block_bytes: int,
) -> Measured:
    """Return what there is to judge."""
    listed, linked, here = found
    stored = on_disk if isinstance(on_disk, disk.Disk) else None
    served = fuse if isinstance(fuse, ceiling.Ceiling) else None
    fuse_cpu = served.cpu_s_per_byte if served else 0.0
    best = max(linked.curve, key=lambda measurement: measurement.step.bytes_per_s)
    return Measured(
        model_bytes=listed.size_bytes,
        curve=tuple(measurement.step for measurement in linked.curve),
        disk=stored.rates if stored else None,
        fuse=FuseRates(served.fresh_bytes_per_s, served.mapped_bytes_per_s) if served else None,
        cpus=here.cpus,
        cold_cpu_s_per_byte=best.cpu_s_per_byte + (stored.write_cpu_s_per_byte if stored else 0.0) + fuse_cpu,
        warm_cpu_s_per_byte=(stored.read_cpu_s_per_byte if stored else 0.0) + fuse_cpu,
        capacity_bytes=capacity_bytes,
        memory_limit_bytes=here.memory_limit_bytes,
        memory_auto_max_bytes=here.memory_auto_max_bytes,
        block_bytes=block_bytes,
        auto_connections=MOST,
    )
