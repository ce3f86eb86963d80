"""A store of two small blobs on a real file system."""

from pathlib import Path

from lazyfs.cache.directory import open_directory
from lazyfs.cache.store import Store, Terms, open_store
from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, Grid, page_aligned
from lazyfs.core.manifest import build
from lazyfs.streaming.flight import Buffers

BLOCK = 4 * PAGE_BYTES
GRID = Grid(BLOCK)
SIZE = 3 * BLOCK + 1234
A, B = 16, 17


def blobs() -> dict[int, BlobRef]:
    return {A: BlobRef("a", "s3://x/a", "1", SIZE), B: BlobRef("b", "s3://x/b", "1", SIZE)}


def opened(root, budget=10**9, snapshot=None, grid=GRID, spared=frozenset(), **others) -> Store:
    snapshot = snapshot or blobs()
    manifest = build("s3://x", snapshot.values())
    return open_store(open_directory(root), grid, snapshot, manifest, Terms(budget, **others), spared)


def block(content, index):
    return memoryview(content[index * BLOCK : (index + 1) * BLOCK])


def write(store, content, inode, *indexes):
    return [store.write(BlockKey(inode, index), aligned(block(content[inode], index))) for index in indexes]


def aligned(view):
    """Return a copy in page-aligned memory, as direct I/O needs it and blocks have it."""
    found = Buffers().take(len(view))
    found.pages[: len(view)] = view
    return found.pages[: len(view)]


def read(store, inode, index):
    size = GRID.span(SIZE, index).size_bytes
    into = Buffers().take(size).pages
    assert page_aligned(size) == len(into)
    store.read(BlockKey(inode, index), into)
    return bytes(into[:size])


def files(root, inode) -> tuple[Path, Path, Path]:
    path = open_directory(root).blob_path(blobs()[inode].store_key)
    return path / "data", path / "blocks", path / "meta.json"
