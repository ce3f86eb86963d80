import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.pulled import Pulled, decode

RECORD = Pulled("sub/a\udc80.safetensors", "ab" * 32, 5, 1_700_000_000_000_000_001, 42)


def test_a_record_comes_back_and_the_last_of_a_name_counts():
    later = Pulled(RECORD.name, "cd" * 32, 6, 0, 43)
    other = Pulled("b", "ef" * 32, 0, -1, 44)

    found = decode(RECORD.encode() + other.encode() + later.encode())

    assert {RECORD.name: later, "b": other} == found


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        RECORD.encode()[:-9],
        RECORD.encode().replace(b'"size_bytes": 5', b'"size_bytes": true'),
        RECORD.encode().replace(b'"inode"', b'"node"'),
    ],
)
def test_what_is_no_record_is_left_out(line):
    other = Pulled("b", "ef" * 32, 0, -1, 44)

    assert {"b": other} == decode(line + b"\n" + other.encode())


@given(st.binary())
def test_any_bytes_are_read(content):
    decode(content)
