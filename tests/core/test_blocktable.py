import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import PAGE_BYTES, Grid
from lazyfs.core.blocktable import (
    ABSENT,
    HEADER_BYTES,
    BlockTable,
    encode_entry,
    entry_of,
    entry_offset,
    version_of,
)

KEY = "0123456789abcdef" * 4
GRID = Grid(PAGE_BYTES)
SIZE = 5 * PAGE_BYTES + 1


def table(grid=GRID, size=SIZE, key=KEY):
    return BlockTable(grid, size, key, zlib.crc32)


entries = st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6)


@given(entries)
def test_a_table_read_back_is_the_table_written(values):
    written, read = table(), table()
    for index, value in enumerate(values):
        written[index] = value

    assert read.load(written.encode())
    assert values == [read[index] for index in range(len(read))]
    assert written.stored_bytes == read.stored_bytes
    assert written.complete == read.complete == all(values)


def test_one_entry_written_in_place_is_the_entry_of_its_block():
    whole, patched = table(), bytearray(table().encode())
    whole[3] = 77
    patched[entry_offset(3) : entry_offset(4)] = encode_entry(77)

    assert whole.encode() == bytes(patched)


def test_stored_bytes_follow_the_entries():
    found = table()
    for index in (0, 5, 5):
        found[index] = 9

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

    assert not read.load(bytes(content))
    assert ABSENT == read[0]


@pytest.mark.parametrize(
    "other", [table(key="f" * 64), table(size=SIZE + 1), table(grid=Grid(2 * PAGE_BYTES))]
)
def test_a_table_of_another_blob_size_or_block_size_is_not_taken(other):
    assert not table().load(other.encode())


@given(cut=st.integers(0, HEADER_BYTES + 6 * 8 + 20))
def test_a_table_cut_short_or_too_long_has_what_lies_within(cut):
    written = table()
    for index in range(6):
        written[index] = 100 + index
    content = (written.encode() + b"\xff" * 30)[:cut]
    read = table()

    taken = read.load(content)

    assert taken == (cut >= HEADER_BYTES)
    whole = max(0, min(6, (cut - HEADER_BYTES) // 8))
    assert [100 + index for index in range(whole)] + [ABSENT] * (6 - whole) == [read[i] for i in range(6)]


@given(st.binary(max_size=200))
def test_no_bytes_make_loading_fail(content):
    assert table().load(content) in {True, False}
    assert version_of(content) is None or isinstance(version_of(content), int)


def test_the_version_a_file_claims_is_told_even_when_it_is_newer():
    content = bytearray(table().encode())
    struct.pack_into("<I", content, 8, 7)

    assert 7 == version_of(bytes(content))
    assert 1 == version_of(table().encode())
    assert version_of(b"LZFSBLKS") is None


def test_a_checksum_of_zero_is_not_taken_for_absent():
    assert 1 == entry_of(0)
    assert 5 == entry_of(5)


def test_a_table_that_is_cleared_has_no_block():
    cleared = table()
    for index in range(len(cleared)):
        cleared[index] = 7

    cleared.clear()

    assert 0 == cleared.stored_bytes
    assert not cleared.complete
    assert [ABSENT] * len(cleared) == [cleared[index] for index in range(len(cleared))]
