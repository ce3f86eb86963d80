"""Every single damage to the cache is found and counted; reads are right; and the cache is whole again."""

import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import xxhash

from lazyfs.cache.store import Outcome
from lazyfs.core.blob import BlockKey
from lazyfs.core.blobmeta import is_sound
from lazyfs.core.blocktable import HEADER_BYTES, VERSION, entry_offset
from lazyfs.errors import BlockCorrupt, BlockGone, CacheUnusable
from tests.cache.rig import BLOCK, SIZE, A, B, blobs, block, files, opened, read, write

LAST = SIZE - 3 * BLOCK
"""The length of the last block."""


@dataclass(frozen=True)
class Places:
    """The files of the two blobs, and the snapshot."""

    data: Path
    blocks: Path
    meta: Path
    other: tuple[Path, Path, Path]
    snapshot: Path


Damage = Callable[[Places], object]


def places(root) -> Places:
    (snapshot,) = (root / "v2" / "snapshots").iterdir()
    return Places(*files(root, A), files(root, B), snapshot)


def flipped(file: str, position: int, bits: int = 4) -> Damage:
    def damage(at: Places) -> None:
        path = getattr(at, file)
        body = bytearray(path.read_bytes())
        body[position] ^= bits
        path.write_bytes(body)

    return damage


def overwritten(file: str, position: int, by: bytes) -> Damage:
    def damage(at: Places) -> None:
        with getattr(at, file).open("r+b") as into:
            into.seek(position)
            into.write(by)

    return damage


def resized(file: str, size: int) -> Damage:
    return lambda at: os.truncate(getattr(at, file), size)


def missing(file: str) -> Damage:
    return lambda at: getattr(at, file).unlink()


def replaced(file: str, by: bytes) -> Damage:
    return lambda at: getattr(at, file).write_bytes(by)


def swapped(*numbers: int) -> Damage:
    """Swap files of the two blobs: 0 is data, 1 is blocks, 2 is meta.json."""

    def damage(at: Places) -> None:
        for number in numbers:
            exchange((at.data, at.blocks, at.meta)[number], at.other[number])

    return damage


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def pieces_swapped(path: Path, size: int, *positions: int, with_: Path | None = None) -> None:
    """Swap `size` bytes at two places of one file, or at one place of two files."""
    first, second = (path, positions[0]), (with_ or path, positions[-1])
    found = [place.read_bytes()[position : position + size] for place, position in (first, second)]
    for (place, position), piece in zip((first, second), reversed(found), strict=True):
        with place.open("r+b") as into:
            into.seek(position)
            into.write(piece)


def two_blocks_swapped_with_their_entries(at: Places) -> None:
    pieces_swapped(at.data, BLOCK, 0, 2 * BLOCK)
    pieces_swapped(at.blocks, 8, entry_offset(0), entry_offset(2))


def a_block_swapped_between_blobs_with_its_entry(at: Places) -> None:
    pieces_swapped(at.data, BLOCK, BLOCK, with_=at.other[0])
    pieces_swapped(at.blocks, 8, entry_offset(1), with_=at.other[1])


def hole(at: Places) -> None:
    body = at.data.read_bytes()
    at.data.unlink()
    with at.data.open("wb") as into:
        into.write(body[:BLOCK])
        into.seek(2 * BLOCK)
        into.write(body[2 * BLOCK :])


DATA = (
    {
        f"data, bit flipped in {what}": flipped("data", position)
        for what, position in {
            "the first byte": 0,
            "the middle of a block": BLOCK // 2,
            "the last byte of a block": BLOCK - 1,
            "the first byte of another block": BLOCK,
            "the last block": 3 * BLOCK,
            "the last byte": SIZE - 1,
        }.items()
    }
    | {
        "data, a block of zeros": overwritten("data", BLOCK, bytes(BLOCK)),
        "data, a page of zeros": overwritten("data", 2 * BLOCK + 4096, bytes(4096)),
        "data, the last block of zeros": overwritten("data", 3 * BLOCK, bytes(LAST)),
        "data, a hole": hole,
        "data, all zeros": replaced("data", bytes(SIZE)),
        "data, grown": overwritten("data", SIZE, b"appended"),
    }
    | {
        f"data, cut to {size}": resized("data", size)
        for size in (0, 1, BLOCK, 2 * BLOCK + 1, 3 * BLOCK, SIZE - 1)
    }
)
TABLE = (
    {
        f"table, bit flipped in {what}": flipped("blocks", position)
        for what, position in {
            "the magic": 0,
            "the version": 8,
            "the version, by a lot": 9,
            "the block size": 12,
            "the size": 16,
            "the key": 30,
            "the checksum of the header": 60,
            "the first entry": entry_offset(0),
            "an entry": entry_offset(2) + 3,
            "the last entry": entry_offset(3) + 7,
        }.items()
    }
    | {
        f"table, {what}": damage
        for what, damage in {
            "an entry of zeros": overwritten("blocks", entry_offset(1), bytes(8)),
            "an entry of ones": overwritten("blocks", entry_offset(1), b"\xff" * 8),
            "all entries zeros": overwritten("blocks", HEADER_BYTES, bytes(32)),
            "all zeros": replaced("blocks", bytes(HEADER_BYTES + 32)),
            "entries swapped": lambda at: pieces_swapped(at.blocks, 8, entry_offset(0), entry_offset(1)),
            "appended to": overwritten("blocks", HEADER_BYTES + 32, b"x"),
            "another entry": overwritten("blocks", HEADER_BYTES + 32, bytes(8)),
            "garbage": replaced("blocks", b"garbage"),
            "missing": missing("blocks"),
        }.items()
    }
    | {f"table, cut to {size}": resized("blocks", size) for size in (0, 8, 56, 63, 64, 65, 72, 95)}
)
OTHERS = {
    "meta, a bit": flipped("meta", 12),
    "meta, cut": resized("meta", 20),
    "meta, empty": resized("meta", 0),
    "meta, garbage": replaced("meta", b"\xff{"),
    "meta, something else": replaced("meta", b"[]"),
    "meta, missing": missing("meta"),
    "snapshot, a bit": flipped("snapshot", 30),
    "snapshot, garbage": replaced("snapshot", b"garbage"),
    "snapshot, cut": resized("snapshot", 10),
    "snapshot, empty": resized("snapshot", 0),
}
SWAPS = {
    "data of two blobs": swapped(0),
    "tables of two blobs": swapped(1),
    "data and tables of two blobs": swapped(0, 1),
    "meta of two blobs": swapped(2),
    "the directories of two blobs": lambda at: exchange(at.data.parent, at.other[0].parent),
    "two blocks of one blob": lambda at: pieces_swapped(at.data, BLOCK, 0, BLOCK),
    "two blocks of one blob, with their entries": two_blocks_swapped_with_their_entries,
    "a block of two blobs, with its entry": a_block_swapped_between_blobs_with_its_entry,
}
ALL = DATA | TABLE | OTHERS | {f"swapped, {what}": damage for what, damage in SWAPS.items()}
EXPECTED = pytest.mark.logs("cache_file_damaged", "cache_trouble")


def read_everything(store, content) -> int:
    """Read every block; what cannot be read is stored again. Return how many blocks were repaired."""
    repaired = 0
    for inode in (A, B):
        for index in range(4):
            if store.has(BlockKey(inode, index)):
                try:
                    assert bytes(block(content[inode], index)) == read(store, inode, index)
                    continue
                except BlockGone:
                    pass
                except BlockCorrupt:
                    repaired += 1
            (outcome,) = write(store, content, inode, index)
            assert outcome in {Outcome.STORED, Outcome.REPAIRED}
            repaired += outcome is Outcome.REPAIRED
            assert bytes(block(content[inode], index)) == read(store, inode, index)
    return repaired


def assert_whole(root, content) -> None:
    """Check that a mount finds everything, and nothing to repair."""
    store = opened(root)
    assert 0 == store.mended_count + read_everything(store, content)
    assert 2 * SIZE == store.stored_bytes
    for inode, blob in blobs().items():
        data, _, meta = files(root, inode)
        assert content[inode] == data.read_bytes()
        assert is_sound(meta.read_bytes(), blob.store_key, xxhash.xxh3_64_intdigest)


def filled(root, content):
    store = opened(root)
    for inode in (A, B):
        write(store, content, inode, 0, 1, 2, 3)
    return store


@EXPECTED
@pytest.mark.parametrize("damage", ALL.values(), ids=ALL.keys())
def test_damage_is_found_counted_and_repaired(cache_dir, content, damage):
    filled(cache_dir, content)
    damage(places(cache_dir))

    store = opened(cache_dir)
    assert 0 < store.mended_count + read_everything(store, content)

    assert_whole(cache_dir, content)


@EXPECTED
@pytest.mark.parametrize("damage", (DATA | {"swapped": SWAPS["data of two blobs"]}).values())
def test_data_damaged_while_mounted_is_found_and_repaired(cache_dir, content, damage):
    store = filled(cache_dir, content)
    damage(places(cache_dir))

    read_everything(store, content)

    # What lies beyond the end of the file is nobody's block: the next mount finds it.
    read_everything(opened(cache_dir), content)
    assert_whole(cache_dir, content)


@EXPECTED
@pytest.mark.parametrize("damage", TABLE.values(), ids=TABLE.keys())
def test_a_half_stored_blob_with_a_damaged_table_counts_no_more_than_it_held(cache_dir, content, damage):
    write(opened(cache_dir), content, A, 0, 2)
    write(opened(cache_dir), content, B, 0, 1, 2, 3)
    damage(places(cache_dir))

    store = opened(cache_dir)
    assert 0 < read_everything(store, content) <= 4

    assert_whole(cache_dir, content)


@pytest.mark.logs("cache_file_damaged")
def test_blocks_that_were_lost_with_their_table_are_known_by_the_data_that_is_left(cache_dir, content):
    write(opened(cache_dir), content, A, 0, 2)
    files(cache_dir, A)[1].write_bytes(b"garbage")

    outcomes = write(opened(cache_dir), content, A, 0, 1, 2, 3)

    assert [Outcome.REPAIRED, Outcome.STORED, Outcome.REPAIRED, Outcome.STORED] == outcomes


@pytest.mark.logs("cache_file_damaged")
def test_data_that_is_missing_is_found_when_a_mount_starts(cache_dir, content):
    filled(cache_dir, content)
    files(cache_dir, A)[0].unlink()

    store = opened(cache_dir)

    assert SIZE == store.stored_bytes
    assert 4 == read_everything(store, content)
    assert_whole(cache_dir, content)


def test_a_block_that_was_torn_by_a_crash_is_absent_and_no_damage(cache_dir, content):
    write(opened(cache_dir), content, A, 0)
    overwritten("data", BLOCK, b"half a block")(places_of_one(cache_dir))

    store = opened(cache_dir)

    assert not store.has(BlockKey(A, 1))
    assert [Outcome.STORED] == write(store, content, A, 1)


def places_of_one(root) -> Places:
    data, blocks, meta = files(root, A)
    return Places(data, blocks, meta, (data, blocks, meta), data)


@pytest.mark.parametrize("left", [(), ("data",), ("data", "meta.json")])
def test_a_blob_that_was_half_made_by_a_process_that_was_killed_is_no_damage(cache_dir, content, left):
    filled(cache_dir, content)
    for file in files(cache_dir, A):
        if file.name in left:
            os.truncate(file, 0 if file.name == "data" else file.stat().st_size)
        else:
            file.unlink()

    store = opened(cache_dir)

    assert 0 == store.mended_count + read_everything(store, content)
    assert_whole(cache_dir, content)


def versioned(at: Places, version: int) -> None:
    head = bytearray(at.blocks.read_bytes()[:56])
    struct.pack_into("<I", head, 8, version)
    overwritten("blocks", 0, bytes(head) + struct.pack("<Q", xxhash.xxh3_64_intdigest(head)))(at)


def test_a_table_of_a_newer_version_is_refused_and_left_alone(cache_dir, content):
    filled(cache_dir, content)
    at = places(cache_dir)
    versioned(at, VERSION + 1)
    before = at.blocks.read_bytes()

    with pytest.raises(CacheUnusable, match="newer lazyfs; upgrade"):
        opened(cache_dir)
    assert before == at.blocks.read_bytes()


@pytest.mark.logs("cache_table_rejected")
def test_a_table_of_an_older_version_begins_anew_and_is_no_damage(cache_dir, content):
    filled(cache_dir, content)
    versioned(places(cache_dir), VERSION - 1)

    store = opened(cache_dir)

    assert SIZE == store.stored_bytes
    assert 0 == store.mended_count + read_everything(store, content)
    assert_whole(cache_dir, content)


@pytest.mark.logs("cache_blob_gone")
def test_a_cache_that_vanishes_is_for_its_owner_alone_when_it_is_made_anew(cache_dir, content):
    store = filled(cache_dir, content)
    shutil.rmtree(cache_dir)

    read_everything(store, content)

    assert {0o700} == {
        path.stat().st_mode & 0o777 for path in (cache_dir, *cache_dir.rglob("*")) if path.is_dir()
    }
