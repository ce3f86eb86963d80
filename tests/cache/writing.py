"""Processes that write into one cache and are killed at random moments; after each, the cache is looked at.

`python -m tests.cache.writing ROOT KILLS SEED` prints what it found as JSON. Every round is forked from a
process that has its imports behind it, so that nearly all of its life is writing.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from lazyfs.cache.directory import open_directory
from lazyfs.cache.store import Store, Terms, open_store
from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, Grid, page_aligned
from lazyfs.core.manifest import build
from lazyfs.errors import BlockCorrupt
from lazyfs.streaming.flight import Buffers

BLOCK = 16 * PAGE_BYTES
GRID = Grid(BLOCK)
SIZES = (9 * BLOCK + 777, 5 * BLOCK, 3 * BLOCK + PAGE_BYTES, 100)
BUDGET_BYTES = int(1.2 * sum(SIZES))
"""Two snapshots do not fit, so each evicts the other now and then."""
LIFE_S = 0.06


def content(snapshot: int, inode: int) -> bytes:
    return random.Random(f"{snapshot} {inode}").randbytes(SIZES[inode])


def opened(root: Path, snapshot: int) -> Store:
    blobs = {
        inode: BlobRef(f"{snapshot}-{inode}", f"s3://x/{snapshot}/{inode}", "1", size)
        for inode, size in enumerate(SIZES)
    }
    manifest = build(f"s3://x/{snapshot}", blobs.values())
    return open_store(open_directory(root), GRID, blobs, manifest, Terms(BUDGET_BYTES))


def keys() -> list[BlockKey]:
    return [BlockKey(inode, index) for inode, size in enumerate(SIZES) for index in range(GRID.count(size))]


def write_until_killed(root: Path, snapshot: int, seed: int) -> None:
    """Write, from two threads as a mount does; forget blocks, and write them again."""
    store = opened(root, snapshot)
    bodies = [content(snapshot, inode) for inode in range(len(SIZES))]

    def work(choice: random.Random) -> None:
        buffers = Buffers()
        while True:
            key = choice.choice(keys())
            if store.has(key) and choice.random() < 0.5:
                store.forget(key)
            body = bodies[key.inode][key.index * BLOCK : (key.index + 1) * BLOCK]
            block = buffers.take(len(body))
            block.pages[: len(body)] = body
            store.write(key, block.pages[: len(body)])

    threading.Thread(target=work, args=(random.Random(seed),), daemon=True).start()
    work(random.Random(-seed))


def look(root: Path, snapshot: int) -> dict[str, int]:
    """Read all that the cache says it has."""
    store = opened(root, snapshot)
    found = {"stored": 0, "wrong": 0, "corrupt": 0, "damaged": store.mended_count}
    for key in keys():
        if not store.has(key):
            continue
        body = content(snapshot, key.inode)[key.index * BLOCK : (key.index + 1) * BLOCK]
        into = Buffers().take(page_aligned(len(body))).pages
        try:
            store.read(key, into)
        except BlockCorrupt:
            found["corrupt"] += 1
        else:
            found["stored"] += 1
            found["wrong"] += bytes(into[: len(body)]) != body
    return found


def main(root: Path, kills: int, seed: int) -> None:
    """Let writers live and die."""
    choice = random.Random(seed)
    total = {"killed": 0, "stored": 0, "wrong": 0, "corrupt": 0, "damaged": 0, "complete": 0}
    for number in range(kills):
        snapshot = choice.randrange(2)
        child = os.fork()
        if child == 0:
            write_until_killed(root, snapshot, number + 1)
        time.sleep(choice.random() * LIFE_S)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        total["killed"] += os.WTERMSIG(status) == signal.SIGKILL
        for name, count in look(root, snapshot).items():
            total[name] += count
    # And it goes on: whatever is missing can be stored.
    store = opened(root, 0)
    for key in keys():
        body = content(0, key.inode)[key.index * BLOCK : (key.index + 1) * BLOCK]
        block = Buffers().take(len(body))
        block.pages[: len(body)] = body
        store.write(key, block.pages[: len(body)])
    total["complete"] = int(look(root, 0)["stored"] == len(keys()))
    sys.stdout.write(json.dumps(total) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
