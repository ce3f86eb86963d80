"""Reading a blob as a lane does, once."""

from lazyfs.core.blob import ByteRange
from lazyfs.transport.ranges import RangeReader, Wanted


def read(source, blob):
    into = memoryview(bytearray(blob.size_bytes))
    reader = RangeReader()
    try:
        reader.fetch(
            source.locate(blob), Wanted(ByteRange(0, blob.size_bytes), blob.size_bytes), into, lambda _: None
        )
    finally:
        reader.close()
    return bytes(into)
