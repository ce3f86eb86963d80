import time

import pytest
import trio

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied
from lazyfs.streaming.locator import Locator

BLOBS = {1: BlobRef("a", "o", "v", 1), 2: BlobRef("b", "o", "v", 1)}


class Source:
    def __init__(self, lifetime_s=3600.0):
        self.asked = []
        self.lifetime_s = lifetime_s
        self.error = None

    def locate(self, blob):
        self.asked.append(blob.name)
        time.sleep(0.01)  # as a network would
        if self.error:
            raise self.error
        return Location(f"https://x/{blob.name}", expires_at_s=time.time() + self.lifetime_s)


async def test_a_location_is_asked_for_once_by_however_many():
    source = Source()
    locator = Locator(BLOBS, source.locate)
    found = []

    async def ask(inode):
        found.append((await locator.current(inode)).url)

    async with trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(ask, 1 + number % 2)

    assert ["a", "b"] == sorted(source.asked)
    assert ["https://x/a"] * 16 + ["https://x/b"] * 16 == sorted(found)


async def test_a_location_about_to_expire_is_renewed():
    source = Source(lifetime_s=30.0)
    locator = Locator(BLOBS, source.locate)

    await locator.current(1)
    await locator.current(1)

    assert ["a", "a"] == source.asked


async def test_a_refused_location_is_renewed_once_though_several_refuse_it():
    source = Source()
    locator = Locator(BLOBS, source.locate)
    first = await locator.current(1)

    locator.refuse(1, first)
    second = await locator.current(1)
    locator.refuse(1, first)

    assert second is await locator.current(1)
    assert ["a", "a"] == source.asked


async def test_an_error_is_told_and_the_next_asks_again():
    source = Source()
    source.error = AccessDenied("no")
    locator = Locator(BLOBS, source.locate)
    with pytest.raises(AccessDenied):
        await locator.current(1)

    source.error = None

    assert "https://x/a" == (await locator.current(1)).url
