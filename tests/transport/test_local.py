import os

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.errors import AccessDenied, BlobChanged
from lazyfs.sources import Access, open_source
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted


@pytest.fixture
def file(tmp_path, pattern_bytes):
    path = tmp_path / "weights #1 50%.bin"
    path.write_bytes(pattern_bytes(100_000))
    return path


def located(file):
    source = open_source(f"file://{file}", Access())
    (blob,) = source.list()
    return source.locate(blob)


def read(location, start=10, stop=60_000):
    into = memoryview(bytearray(stop - start))
    landings = []
    Lane().fetch(location, Wanted(ByteRange(start, stop), 100_000), into, landings.append)
    assert [stop - start] == landings
    return bytes(into)


def test_a_range_of_a_file_is_its_bytes(file):
    assert file.read_bytes()[10:60_000] == read(located(file))


def test_a_file_written_to_since_it_was_pinned_is_changed(file):
    location = located(file)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))

    with pytest.raises(BlobChanged, match="was written to"):
        read(location)


def test_a_file_that_was_cut_short_is_changed(file):
    location = located(file)
    state = file.stat()
    os.truncate(file, 50_000)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))

    with pytest.raises(BlobChanged):
        read(location)


def test_a_file_that_is_gone_is_changed(file):
    location = located(file)
    file.unlink()

    with pytest.raises(BlobChanged, match="is gone"):
        read(location)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_denied(file):
    location = located(file)
    file.chmod(0)

    with pytest.raises(AccessDenied):
        read(location)
