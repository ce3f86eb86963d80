import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import PAGE_BYTES, Grid
from lazyfs.core.blocktable import ABSENT, HEADER_BYTES, VERSION, BlockTable, Taken, entry_offset

KEY = "0123456789abcdef" * 4
GRID = Grid(PAGE_BYTES)
SIZE = 5 * PAGE_BYTES + 1


def table(grid=GRID, size=SIZE, key=KEY):
    return BlockTable(grid, size, key, checksum)


def checksum(content, seed):
    return zlib.crc32(content, seed & 0xFFFFFFFF) << 32 | seed >> 32


entries = st.lists(st.integers(0, 2**64 - 1) | st.just(ABSENT), min_size=6, max_size=6)


@given(entries)
def test_a_table_read_back_is_the_table_written(values):
    written, read = table(), table()
    for index, value in enumerate(values):
        written[index] = value

    assert Taken.YES is read.load(written.encode())
    assert values == [read[index] for index in range(len(read))]
    assert written.stored_bytes == read.stored_bytes
    assert tuple(index for index, value in enumerate(values) if value != ABSENT) == read.stored
    assert written.complete == read.complete == (ABSENT not in values)


def test_one_entry_written_in_place_is_the_entry_of_its_block():
    whole, patched = table(), bytearray(table().encode())
    whole[3] = 77
    patched[entry_offset(3) : entry_offset(4)] = whole.encoded(3, 77)

    assert whole.encode() == bytes(patched)


def test_stored_bytes_follow_the_entries():
    found = table()
    for index in (0, 5, 5):
        found[index] = 0

    assert PAGE_BYTES + 1 == found.stored_bytes

    found[0] = ABSENT

    assert 1 == found.stored_bytes
    assert not found.complete


def test_a_blob_without_blocks_is_complete():
    assert table(size=0).complete


@pytest.mark.parametrize("position", range(HEADER_BYTES))
def test_a_change_of_any_byte_of_the_header_is_noticed(position):
    written = table()
    written[0] = 5
    content = bytearray(written.encode())
    content[position] ^= 1
    read = table()

    assert Taken.DAMAGED is read.load(bytes(content))
    assert ABSENT == read[0]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (table(key="f" * 64), Taken.DAMAGED),
        (table(size=SIZE + 1), Taken.DAMAGED),
        (table(grid=Grid(2 * PAGE_BYTES)), Taken.OTHER_GRID),
    ],
)
def test_a_table_of_another_blob_size_or_block_size_is_not_taken(other, why):
    assert why is table().load(other.encode())


@pytest.mark.parametrize("change", [*range(-6 * 8 - HEADER_BYTES, 0), *range(1, 20)])
def test_a_table_cut_short_or_too_long_is_damaged(change):
    written = table()
    written[0] = 100
    content = written.encode()
    read = table()

    assert Taken.DAMAGED is read.load(content[:change] if change < 0 else content + bytes(change))
    assert not read.stored


@given(st.binary(max_size=200))
def test_no_bytes_make_loading_fail(content):
    assert table().load(content) is not Taken.YES


@pytest.mark.parametrize(
    ("version", "why"), [(VERSION - 1, Taken.OLDER), (VERSION + 1, Taken.NEWER), (900, Taken.NEWER)]
)
def test_a_table_of_another_version_is_told_from_a_damaged_one(version, why):
    content = bytearray(table().encode())
    struct.pack_into("<I", content, 8, version)
    assert Taken.DAMAGED is table().load(bytes(content))

    struct.pack_into("<Q", content, 56, checksum(bytes(content[:56]), 0))
    assert why is table().load(bytes(content))


@pytest.mark.parametrize("garbage", [bytes(8), b"\xff" * 8, b"garbage!"])
def test_an_entry_that_was_overwritten_is_no_absent_one(garbage):
    content = bytearray(table().encode())
    content[entry_offset(2) : entry_offset(3)] = garbage
    read = table()

    assert Taken.YES is read.load(bytes(content))
    assert (2,) == read.stored


@given(
    values=entries,
    edits=st.lists(
        st.tuples(st.integers(0, HEADER_BYTES + 47), st.binary(max_size=9)), min_size=1, max_size=4
    ),
)
def test_a_damaged_table_is_refused_whole_or_taken_as_it_stands(values, edits):
    """Entries may be wrong, then the data do not match them; but never of another blob, place or length."""
    written, read = table(), table()
    for index, value in enumerate(values):
        written[index] = value
    content = bytearray(written.encode())
    for place, change in edits:
        content[place : place + len(change)] = change

    if read.load(bytes(content)) is Taken.YES:
        assert written.header() == content[:HEADER_BYTES]
        assert content[HEADER_BYTES:] == b"".join(read.encoded(index, read[index]) for index in range(6))
    else:
        assert [ABSENT] * 6 == [read[index] for index in range(6)]
        assert 0 == read.stored_bytes


def test_the_entry_of_one_block_says_nothing_of_another_with_the_same_bytes():
    one, other = table(), table(key="9" + KEY[1:])
    entries = [found.checksum_of(index, b"same") for found in (one, other) for index in range(6)]

    assert 12 == len(set(entries))
    assert 12 == len({found.encoded(index, ABSENT) for found in (one, other) for index in range(6)})


def test_a_table_that_is_cleared_has_no_block():
    cleared = table()
    for index in range(len(cleared)):
        cleared[index] = 7

    cleared.clear()

    assert 0 == cleared.stored_bytes
    assert not cleared.complete
    assert [ABSENT] * len(cleared) == [cleared[index] for index in range(len(cleared))]


@given(size_bytes=st.integers(0, SIZE))
def test_what_is_stored_beyond_the_end_of_a_file_is_told(size_bytes):
    found = table()
    found[1] = found[5] = 7

    stops = {1: 2 * PAGE_BYTES, 5: SIZE}
    assert tuple(index for index, stop in stops.items() if stop > size_bytes) == found.beyond(size_bytes)
