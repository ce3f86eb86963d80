import pytest

from lazyfs.core.blob import PAGE_BYTES, BlobRef, Grid
from lazyfs.core.concurrency import Concurrency
from lazyfs.core.wholeplan import WholePlan
from lazyfs.pull.pace import PacedWarmer


@pytest.mark.parametrize(("fewest", "most", "places"), [(8, 32, 12), (32, 32, 32), (1, 1, 1)])
async def test_a_block_has_its_place_until_it_is_on_disk(fewest, most, places):
    plan = WholePlan({1: BlobRef("a", "o", "v", 100 * PAGE_BYTES)}, Grid(PAGE_BYTES))
    warmer = PacedWarmer(plan, lambda _key: False, Concurrency(PAGE_BYTES, fewest, most))
    begun = []
    warmer.under_way = lambda: len(begun)

    while (key := warmer.next()) is not None:
        begun.append(key)
    assert places == len(begun)

    begun.pop()

    assert warmer.next() is not None
