"""What the tests of `hf://` share: how they read, and who they are."""

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.errors import LazyfsError
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted

SECRET = "hf_of_the_reader"


def by_name(source):
    return {blob.name: blob for blob in source.list()}


def read(source, blob, location=None):
    into = memoryview(bytearray(blob.size_bytes))
    lane = Lane()
    try:
        lane.fetch(
            location or source.locate(blob),
            Wanted(ByteRange(0, blob.size_bytes), blob.size_bytes),
            into,
            lambda _count: None,
        )
    finally:
        lane.close()
    return bytes(into)


def refused(error, work, *arguments):
    with pytest.raises(LazyfsError) as raised:
        work(*arguments)
    assert error is type(raised.value), repr(raised.value)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)
    return raised.value
