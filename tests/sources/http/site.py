"""What the tests of `https://` share: a web server by its pages, and how they read it."""

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.errors import LazyfsError
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from tests.faults.server import Behaviour, FaultServer

MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class Site(FaultServer):
    """A server with pages: by path, how it answers; everything else is not there."""

    def __init__(self, **more):
        super().__init__(**more)
        self.pages = {}
        self.behave = lambda asked: self.pages.get(asked.path, Behaviour(status=404))

    def page(self, path, body=b"", **headers):
        self.pages[path] = Behaviour(body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def file(self, path, content=b"weights", how=None, **headers):
        self.files[path] = content
        self.pages[path] = how or Behaviour(headers={k.replace("_", "-"): v for k, v in headers.items()})

    def index(self, path, *names):
        links = "".join(f'<a href="{name}">{name}</a>' for name in names)
        self.page(path, f"<title>Index of {path}</title>{links}".encode(), Content_Type="text/html")


def read(source, blob, start=0, stop=None):
    stop = blob.size_bytes if stop is None else stop
    into, lane = memoryview(bytearray(stop - start)), Lane()
    try:
        lane.fetch(source.locate(blob), Wanted(ByteRange(start, stop), blob.size_bytes), into, lambda _: None)
    finally:
        lane.close()
    return bytes(into)


def names(source):
    return sorted(blob.name for blob in source.list())


def refused(opened, address, **access):
    with pytest.raises(LazyfsError) as raised:
        list(opened(address, **access).list())
    assert raised.value.cure
    assert "\n" not in str(raised.value)
    return raised.value
