"""Puts the parts of a mount together. Values go in, wired objects come out; nothing runs yet."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from lazyfs.cache.directory import open_directory
from lazyfs.cache.store import Store, Terms, open_store
from lazyfs.config import MountOptions, default_cache_dir
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.core.duplicates import duplicates
from lazyfs.core.layout import in_order
from lazyfs.core.ledger import Ledger
from lazyfs.core.location import Location
from lazyfs.core.manifest import Manifest
from lazyfs.core.memorybudget import budget_bytes, least_budget_bytes
from lazyfs.core.origin import is_older
from lazyfs.core.plan import Planner, head_bytes
from lazyfs.errors import CacheUnusable
from lazyfs.fuse.content import Content
from lazyfs.fuse.operations import Operations
from lazyfs.mount.loading import connections_of, has_nothing, limits_of, wire
from lazyfs.mount.memory import limit_bytes
from lazyfs.mount.memorywatch import MemoryWatch
from lazyfs.mount.report import Origin, Reporter
from lazyfs.streaming.fetcher import Blobs
from lazyfs.streaming.loader import BlockLoader
from lazyfs.streaming.reader import BlobReader
from lazyfs.streaming.verifier import Verifier
from lazyfs.streaming.warmer import Warmer
from lazyfs.streaming.writer import Writer
from lazyfs.telemetry.metrics import BLOCKS_REPAIRED, Meter

log = logging.getLogger(__name__)

Locate = Callable[[BlobRef], Location]


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, and what is asked."""

    loader: BlockLoader
    warmer: Warmer
    writer: Writer | None
    verifier: Verifier | None
    store: Store | None
    operations: Operations
    content: Content
    reporter: Reporter
    meter: Meter
    memory: MemoryWatch


def assemble(locate: Locate, manifest: Manifest, options: MountOptions, origin: Origin) -> Parts:
    """Wire the parts of a mount of `manifest`.

    A mount that was there before (not the origin's `first`) goes on whatever has become of its cache and of
    the memory there is: without a store, with the least budget.

    Raises:
        CacheUnusable: when the cache directory of a first mount cannot be used.
        MemoryTooSmall: when there is too little memory for a first mount.

    """
    grid, nodes = Grid(options.block_size), manifest.nodes()
    by_inode = {inode: node.blob for inode, node in nodes.items() if node.blob is not None}
    fitting = budget_bytes if origin.first else least_budget_bytes
    memory = fitting(limit_bytes(), options.memory, connections_of(options), options.block_size)
    spared = _spared(by_inode)
    needed = {inode: blob for inode, blob in by_inode.items() if inode not in spared}
    store, no_cache_why = _store(options, grid, by_inode, manifest, spared, first=origin.first)
    blobs = Blobs(by_inode, grid, head_bytes(needed, options.block_size, memory))
    models, heads = in_order(by_inode, manifest.parts), blobs.head_bytes
    planner = Planner(by_inode, grid, options.policy, head_bytes=heads, models=models, spared=spared)
    warmer = Warmer(planner, store.has if store is not None else has_nothing)
    ledger: Ledger[BlockKey] = Ledger(memory, lambda key: key.inode in needed)
    whole_in = None if store is None else options.cache_dir or default_cache_dir()
    loading = wire(blobs, locate, store, warmer, ledger, limits_of(options), whole_in)
    loader, meter = loading.loader, loading.meter
    needed_bytes = sum(blob.size_bytes for blob in needed.values())
    reporter = Reporter(manifest, origin, (loader, warmer, ledger, store), meter, needed_bytes)
    reporter.no_cache_why = no_cache_why
    resting = loader.traffic.resting
    verifier = Verifier(store, resting, meter, reporter.mismatched) if store is not None else None
    meter.add(BLOCKS_REPAIRED, store.mended_count if store is not None else 0)
    reader = BlobReader(loader, planner, grid, meter)
    content = Content(nodes, reader, lambda: reporter.status().to_json())
    operations = Operations(nodes, meter, origin.owner)
    return Parts(
        loader, warmer, loading.writer, verifier, store, operations, content, reporter, meter, loading.memory
    )


def _spared(by_inode: dict[int, BlobRef]) -> frozenset[int]:
    """Return the blobs that nothing is fetched of before somebody reads them."""
    found = duplicates(by_inode)
    if found:
        size_bytes = sum(by_inode[inode].size_bytes for inode in found)
        log.info("duplicates_spared files=%d bytes=%d", len(found), size_bytes)
    return found


def _store(
    options: MountOptions,
    grid: Grid,
    by_inode: dict[int, BlobRef],
    manifest: Manifest,
    spared: frozenset[int],
    *,
    first: bool,
) -> tuple[Store | None, str]:
    """Return the store, if one is wanted; or why there is none though it was."""
    if 0 in {options.cache_size, options.cache_share}:
        return None, ""
    if any(is_older(blob.origin) for blob in by_inode.values()):
        # Which server that is, nobody can tell, so nothing can be kept under its name.
        return None, "an older version pinned this mount, and its sources are not to be had"
    try:
        directory = open_directory(options.cache_dir or default_cache_dir())
        terms = Terms(options.cache_size, options.cache_share, options.prove_digests)
        return open_store(directory, grid, by_inode, manifest, terms, spared), ""
    except CacheUnusable as error:
        if first:
            raise
        log.warning("cache_unusable error=%r consequence=%r", str(error), "nothing is kept")
        return None, error.cause
