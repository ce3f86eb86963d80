"""Puts the parts of a mount together. Values go in, wired objects come out; nothing runs yet."""

from dataclasses import dataclass
from pathlib import Path

from lazyfs.cache.directory import open_directory
from lazyfs.cache.store import Store, open_store
from lazyfs.config import MountOptions, default_cache_dir
from lazyfs.core.blob import BlockKey, Grid
from lazyfs.core.concurrency import ENOUGH, Concurrency
from lazyfs.core.ledger import Ledger
from lazyfs.core.manifest import Manifest
from lazyfs.core.plan import Planner, head_bytes
from lazyfs.fuse.content import Content
from lazyfs.fuse.operations import Operations
from lazyfs.mount.memory import auto_budget_bytes, limit_bytes
from lazyfs.mount.report import Reporter
from lazyfs.sources import Source
from lazyfs.streaming.blockmemory import BlockMemory
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.loader import BlockLoader, Limits
from lazyfs.streaming.locator import Locator
from lazyfs.streaming.reader import BlobReader
from lazyfs.streaming.warmer import Warmer
from lazyfs.streaming.writer import Writer
from lazyfs.telemetry.metrics import Meter


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, and what is asked."""

    loader: BlockLoader
    writer: Writer | None
    store: Store | None
    operations: Operations
    content: Content
    reporter: Reporter
    meter: Meter


def assemble(
    source: Source, manifest: Manifest, mountpoint: Path, options: MountOptions, started_at_s: float
) -> Parts:
    """Wire the parts of a mount of `manifest`.

    Raises:
        CacheUnusable: when the cache directory cannot be used.

    """
    grid, meter, nodes = Grid(options.block_size), Meter(), manifest.nodes()
    by_inode = {inode: node.blob for inode, node in nodes.items() if node.blob is not None}
    store = None
    if options.cache_size != 0:
        directory = open_directory(options.cache_dir or default_cache_dir())
        store = open_store(directory, grid, by_inode, manifest, options.cache_size)
    has = store.has if store is not None else _has_nothing
    connections = options.connections or ENOUGH
    memory = options.memory or auto_budget_bytes(limit_bytes(), connections, options.block_size)
    blobs = Blobs(by_inode, grid, head_bytes(by_inode, options.block_size, memory))
    planner = Planner(by_inode, grid, options.policy, head_bytes=blobs.head_bytes)
    warmer = Warmer(planner, has)
    ledger: Ledger[BlockKey] = Ledger(memory)
    fetcher = Fetcher(blobs, Locator(by_inode, source.locate), store.read if store else None, meter)
    limits = Limits(_concurrency(options), options.read_deadline)
    loader = BlockLoader(blobs, fetcher, BlockMemory(ledger), warmer, limits, meter, has)
    writer = loader.keep_with(store.write) if store is not None else None
    reporter = Reporter(manifest, mountpoint, (loader, warmer, ledger, store), meter, started_at_s)
    reader = BlobReader(loader, planner, grid, meter)
    content = Content(nodes, reader, lambda: reporter.status().to_json())
    return Parts(loader, writer, store, Operations(nodes, meter), content, reporter, meter)


def _concurrency(options: MountOptions) -> Concurrency:
    if options.connections is None:
        return Concurrency(options.block_size)
    return Concurrency(options.block_size, options.connections, options.connections)


def _has_nothing(_key: BlockKey) -> bool:
    return False
