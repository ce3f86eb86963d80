import json
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from lazyfs.core.safetensors import DTYPE_BITS, HEADER_BYTES_MAX, header_length, parse, parse_index
from lazyfs.errors import BadHeader


def header(**tensors):
    return json.dumps(tensors).encode()


def tensor(start, stop, dtype="U8", shape=None):
    return {
        "dtype": dtype,
        "shape": [stop - start] if shape is None else shape,
        "data_offsets": [start, stop],
    }


dtypes = st.sampled_from([np.float16, np.float32, np.int8, np.uint64, np.bool_])
shapes = st.lists(st.integers(0, 5), max_size=3)


@given(
    arrays=st.dictionaries(st.text(max_size=20), st.tuples(dtypes, shapes), max_size=6),
    # the reference writer makes no JSON of an empty map
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1),
)
def test_a_layout_says_where_the_safetensors_package_put_each_tensor(arrays, metadata):
    arrays = {
        name: (np.arange(np.prod(shape, dtype=int)) % 2).astype(dtype).reshape(shape)
        for name, (dtype, shape) in arrays.items()
        if name != "__metadata__"
    }
    file = save(arrays, metadata)

    length = header_length(file[:8], len(file))
    layout = parse(file[8 : 8 + length], len(file))

    assert (metadata or {}) == layout.metadata
    assert arrays.keys() == {t.name for t in layout.tensors}
    for found in layout.tensors:
        array = arrays[found.name]
        assert array.shape == found.shape
        assert array.tobytes() == file[found.span.start : found.span.stop]
    starts = [t.span.start for t in layout.tensors]
    assert sorted(starts) == starts


def test_dtypes_of_less_than_a_byte_count_in_bits():
    text = header(a=tensor(0, 3, "F4", [2, 3]), b=tensor(3, 6, "F6_E2M3", [4]))

    assert [3, 3] == [t.span.size_bytes for t in parse(text, 8 + len(text) + 6).tensors]


@pytest.mark.parametrize(
    ("text", "data_bytes", "why"),
    [
        (b"", 0, "begin with '{'"),
        (b" {}", 0, "begin with '{'"),
        (b"{", 0, "not JSON"),
        (b"{}x", 0, "not JSON"),
        (b'{"\xff":1}', 0, "not JSON"),
        (b"{}", 1, "tensors end at"),
        (header(a=tensor(0, 4)), 5, "tensors end at"),
        (header(a=tensor(0, 4)), 3, "tensors end at"),
        (header(a=tensor(1, 4)), 4, "a hole"),
        (header(a=tensor(0, 2), b=tensor(3, 4)), 4, "a hole"),
        (header(a=tensor(0, 3), b=tensor(2, 4)), 4, "an overlap"),
        (header(a=tensor(0, 4, shape=[3])), 4, "does not fit its shape"),
        (header(a=tensor(0, 1, "F4", [3])), 1, "does not fit its shape"),
        (header(a=tensor(0, 4, dtype="F128")), 4, "unknown dtype"),
        (header(a=tensor(0, 4) | {"dtype": ["F32"]}), 4, "unknown dtype"),
        (header(a=1), 0, "not an object"),
        (header(a={}), 0, "unknown dtype"),
        (header(a=tensor(0, 4) | {"shape": 4}), 4, "no proper shape"),
        (header(a=tensor(0, 4) | {"shape": [-4]}), 4, "no proper shape"),
        (header(a=tensor(0, 1) | {"shape": [True]}), 1, "no proper shape"),
        (header(a=tensor(0, 4) | {"shape": [2**63]}), 4, "no proper shape"),
        (header(a=tensor(0, 4) | {"data_offsets": [0, 4, 4]}), 4, "no proper shape"),
        (header(a=tensor(0, 4) | {"data_offsets": [0.0, 4]}), 4, "no proper shape"),
        (header(__metadata__=[]), 0, "__metadata__"),
        (header(__metadata__={"a": 1}), 0, "__metadata__"),
        (b'{"a":1,"a":2}', 0, "occurs twice"),
    ],
)
def test_what_breaks_the_format_is_refused_and_says_why(text, data_bytes, why):
    with pytest.raises(BadHeader, match=why):
        parse(text, 8 + len(text) + data_bytes)


@pytest.mark.parametrize(
    ("prefix", "size", "why"),
    [
        (b"", 0, "no safetensors header"),
        (b"1234567", 7, "no safetensors header"),
        (struct.pack("<Q", HEADER_BYTES_MAX + 1), 2**40, "the limit is"),
        (struct.pack("<Q", 2**64 - 1), 2**40, "the limit is"),
        (struct.pack("<Q", 100), 107, "in a file of 107"),
    ],
)
def test_an_impossible_length_is_refused(prefix, size, why):
    with pytest.raises(BadHeader, match=why):
        header_length(prefix, size)


def test_the_longest_header_and_one_that_fills_the_file_are_accepted():
    assert HEADER_BYTES_MAX == header_length(struct.pack("<Q", HEADER_BYTES_MAX), 2**40)
    assert 100 == header_length(struct.pack("<Q", 100), 108)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*DTYPE_BITS]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {}, optional={"dtype": json_values, "shape": json_values, "data_offsets": json_values}
)
NESTED = b'{"a":' * 100_000
HUGE_NUMBER = b'{"a":' + b"9" * 10_000 + b"}"


@given(
    st.binary(max_size=80)
    | st.dictionaries(st.text(max_size=12), entries | json_values).map(json.dumps).map(str.encode)
)
@example(NESTED)
@example(HUGE_NUMBER)
@example(b'{"a":NaN}')
def test_no_bytes_raise_anything_but_bad_header(content):
    for attempt in (
        lambda: parse(content, 8 + len(content)),
        lambda: parse_index(content),
        lambda: header_length(content, len(content)),
    ):
        try:
            attempt()
        except BadHeader:
            pass


edits = st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=4)), min_size=1, max_size=4)


@given(edits=edits, insert=st.booleans())
def test_a_header_with_some_bytes_changed_is_refused_or_covers_the_file_exactly(edits, insert):
    """Whatever is taken for a layout: its tensors lie in the file, one after the other, without gaps."""
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.uint8), "c": np.zeros((0, 7), np.int8)}
    file = save(arrays, {"format": "pt"})
    length = header_length(file[:8], len(file))
    text = bytearray(file[8 : 8 + length])
    for position, change in edits:
        place = position % len(text)
        text[place : place if insert else place + len(change)] = change
    size = 8 + len(text) + len(file) - 8 - length
    try:
        layout = parse(bytes(text), size)
    except BadHeader:
        return

    position = layout.data_start
    for found in layout.tensors:
        assert position == found.span.start
        position = found.span.stop
        assert found.span.size_bytes * 8 == DTYPE_BITS[found.dtype] * math.prod(found.shape)
    assert size == position


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | json_values, max_size=4))
def test_an_index_is_a_map_of_names_or_refused(weight_map):
    try:
        found = parse_index(json.dumps({"weight_map": weight_map}).encode())
    except BadHeader:
        assert not all(isinstance(shard, str) for shard in weight_map.values())
    else:
        assert weight_map == found
        assert all(isinstance(shard, str) for shard in found.values())


def test_an_index_says_which_shard_holds_which_tensor():
    text = json.dumps({"metadata": {"total_size": 3}, "weight_map": {"a": "one", "b": "two"}}).encode()

    assert {"a": "one", "b": "two"} == parse_index(text)


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b"\xff"])
def test_what_is_no_index_is_refused(text):
    with pytest.raises(BadHeader):
        parse_index(text)
