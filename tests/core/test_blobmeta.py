import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef
from lazyfs.core.blobmeta import encode, is_sound

BLOB = BlobRef("sub/a.safetensors", "s3://x/sub/a.safetensors", '"etag"', 1234)


def checksum(content, seed):
    return zlib.crc32(content, seed)


def sound(content, blob=BLOB):
    return is_sound(content, blob.store_key, checksum)


def test_it_says_what_the_blob_is_and_is_sound():
    content = encode(BLOB, checksum)

    fields = json.loads(content)

    assert fields.pop("check")
    assert {
        "name": "sub/a.safetensors",
        "size": 1234,
        "source": "s3://x/sub/a.safetensors",
        "version": '"etag"',
        "digest": None,
        "verified_at": None,
    } == fields
    assert sound(content)


def test_a_change_of_any_byte_is_noticed():
    content = encode(BLOB, checksum)
    for position in range(len(content)):
        for bit in (1, 4, 128):
            changed = bytearray(content)
            changed[position] ^= bit
            assert not sound(bytes(changed)), bytes(changed)


def test_that_of_another_blob_is_noticed():
    assert not sound(encode(BlobRef("b", "s3://x/b", "1", 1234), checksum))


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_one(content):
    assert not sound(content)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"[" * 100_000, encode(BLOB, checksum)[:-1]])
def test_what_is_cut_short_or_something_else_is_noticed(content):
    assert not sound(content)
