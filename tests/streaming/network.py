"""A loader that fetches from a server; blobs are at `/<inode>`."""

import trio

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location
from lazyfs.errors import LazyfsError
from lazyfs.streaming.breakers import Breakers
from lazyfs.streaming.fetcher import Blobs, Fetcher
from lazyfs.streaming.gets import Gets
from lazyfs.streaming.locator import Locator
from lazyfs.transport.connection import Patience
from tests.faults.server import FaultServer
from tests.streaming.rig import Rig

PATIENCE = Patience(connect_s=2.0, first_byte_s=2.0, stall_s=2.0)


class NetworkRig(Rig):
    """The rig of this package, with a real fetcher."""

    def __init__(self, server: FaultServer, contents: dict[int, bytes], **options: object) -> None:
        self.server = server
        self.located: list[str] = []
        server.files = {f"/{inode}": content for inode, content in contents.items()}
        super().__init__(contents, **options)

    def make_fetcher(self, blobs: Blobs) -> Fetcher:
        breakers = Breakers()
        self.gets = Gets(self.memory, breakers, self.meter, 40, PATIENCE)
        locator = Locator(blobs.by_inode, self._located)
        return Fetcher(blobs, locator, None, self.gets, breakers, self.meter)

    def has(self, _key) -> bool:
        return False

    def _located(self, blob: BlobRef) -> Location:
        return self.locate(blob)  # which a test may have replaced

    def locate(self, blob: BlobRef) -> Location:
        inode = blob.name.partition(".")[0]
        self.located.append(inode)
        return Location(self.server.url(f"/{inode}?try={self.located.count(inode)}"))

    async def result(self, inode: int, index: int) -> type[LazyfsError] | float:
        """Read a block; return how long it took, or the kind of error. Wrong bytes fail the test."""
        began_s = trio.current_time()
        try:
            assert self.expected(inode, index) == await self.read(inode, index)
        except LazyfsError as error:
            return type(error)
        return trio.current_time() - began_s
