import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.parts import PART_BYTES, PART_BYTES_MAX, PART_STEP, PARTS_MAX, parts
from lazyfs.errors import UsageError

LARGEST = PARTS_MAX * PART_BYTES_MAX


@given(st.integers(1, LARGEST))
def test_there_are_at_most_10_000_parts_each_within_what_s3_takes(size):
    grid = parts(size)

    assert grid.count(size) <= PARTS_MAX
    assert 5 << 20 <= grid.block_bytes <= PART_BYTES_MAX
    assert 0 == grid.block_bytes % PART_STEP


@pytest.mark.parametrize(
    ("size", "part_bytes"),
    [
        (0, PART_BYTES),
        (5 << 30, PART_BYTES),  # more than one PUT takes
        (PART_BYTES * PARTS_MAX, PART_BYTES),
        (PART_BYTES * PARTS_MAX + 1, PART_BYTES + PART_STEP),
        (1 << 40, 112 << 20),
        (LARGEST, PART_BYTES_MAX),
    ],
)
def test_parts_are_as_small_as_their_number_allows(size, part_bytes):
    assert part_bytes == parts(size).block_bytes


def test_what_no_server_takes_is_refused():
    with pytest.raises(UsageError, match="more than S3 takes"):
        parts(LARGEST + 1)
