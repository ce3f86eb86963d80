import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.memorybudget import (
    BYTES_MIN,
    MIB,
    RESERVE_BYTES,
    auto_bytes,
    budget_bytes,
    least_budget_bytes,
    least_bytes,
    room_bytes,
    squeezed_bytes,
)
from lazyfs.errors import MemoryTooSmall

BLOCK = 8 * MIB


@pytest.mark.parametrize(
    ("limit_mib", "auto_mib"),
    [(64_000, 384), (1536, 384), (1024, 256), (512, 128), (256, 64), (200, 40), (192, 32)],
)
def test_auto_is_what_flights_need_at_most_a_quarter_and_what_there_is_room_for(limit_mib, auto_mib):
    assert auto_mib * MIB == budget_bytes(limit_mib * MIB, None, 16, BLOCK)


@pytest.mark.parametrize("limit_mib", [1, 64, 128, 191])
def test_a_limit_that_is_too_small_is_refused_with_what_is_needed(limit_mib):
    with pytest.raises(
        MemoryTooSmall, match=rf"limit is {limit_mib}MiB, and a mount needs 192MiB.*raise the limit"
    ):
        budget_bytes(limit_mib * MIB, None, 16, BLOCK)


def test_smaller_blocks_need_less():
    assert BYTES_MIN == budget_bytes(150 * MIB, None, 16, MIB)


def test_what_is_asked_for_and_fits_is_given():
    assert 300 * MIB == budget_bytes(460 * MIB, 300 * MIB, 16, BLOCK)


def test_what_is_asked_for_and_does_not_fit_is_refused_with_what_would():
    with pytest.raises(MemoryTooSmall, match=r"--memory 301MiB a mount needs 461MiB.*give --memory 300MiB"):
        budget_bytes(460 * MIB, 301 * MIB, 16, BLOCK)


def test_what_is_asked_for_where_nothing_would_fit_is_refused_without_a_proposal_that_would_not():
    with pytest.raises(MemoryTooSmall, match=r"needs 224MiB with blocks of 8MiB; raise the limit, better"):
        budget_bytes(200 * MIB, 64 * MIB, 16, BLOCK)


@pytest.mark.parametrize("limit_mib", [1, 100, 200, 1000])
@pytest.mark.parametrize("asked", [None, 300 * MIB])
def test_a_mount_that_must_go_on_gets_what_there_is_and_the_least_at_least(limit_mib, asked):
    size = least_budget_bytes(limit_mib * MIB, asked, 16, BLOCK)

    assert size >= least_bytes(BLOCK)
    assert size == least_bytes(BLOCK) or size <= room_bytes(limit_mib * MIB, BLOCK)


@given(
    limit=st.integers(0, 1 << 40),
    connections=st.integers(1, 256),
    block=st.sampled_from([1 << 18, 1 << 23, 1 << 26]),
)
def test_an_automatic_budget_fits_or_is_refused(limit, connections, block):
    size = auto_bytes(limit, connections, block)

    assert size >= least_bytes(block)
    if size > room_bytes(limit, block):
        with pytest.raises(MemoryTooSmall):
            budget_bytes(limit, None, connections, block)
    else:
        assert size == budget_bytes(limit, None, connections, block)


def test_a_budget_is_whole_while_there_is_room_for_it():
    assert 384 * MIB == squeezed_bytes(384 * MIB, 384 * MIB + RESERVE_BYTES, 0, BLOCK)
    assert 384 * MIB == squeezed_bytes(384 * MIB, RESERVE_BYTES, 384 * MIB, BLOCK)


def test_less_than_a_block_is_no_squeeze():
    assert 384 * MIB == squeezed_bytes(384 * MIB, RESERVE_BYTES - BLOCK + 1, 384 * MIB, BLOCK)


def test_a_budget_shrinks_to_what_blocks_hold_and_what_is_left():
    assert 130 * MIB == squeezed_bytes(384 * MIB, 30 * MIB + RESERVE_BYTES, 100 * MIB, BLOCK)


@pytest.mark.parametrize("left_mib", [-500, 0, 20])
def test_below_the_reserve_blocks_leave_but_never_all(left_mib):
    expected = max(BYTES_MIN, (100 + left_mib) * MIB - RESERVE_BYTES)

    assert expected == squeezed_bytes(384 * MIB, left_mib * MIB, 100 * MIB, BLOCK)


def test_a_budget_below_the_least_is_kept():
    assert 10 * MIB == squeezed_bytes(10 * MIB, 0, 0, MIB)
