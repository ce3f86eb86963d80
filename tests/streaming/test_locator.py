import threading
import time

import pytest
import trio

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied, SourceThrottled, SourceUnavailable
from lazyfs.streaming.locator import LOCATE_S, THREADS, Locator

BLOBS = {1: BlobRef("a", "o", "v", 1), 2: BlobRef("b", "o", "v", 1)}

LATER = float("inf")


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
        found.append((await locator.current(inode, LATER)).url)

    async with trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(ask, 1 + number % 2)

    assert ["a", "b"] == sorted(source.asked)
    assert ["https://x/a"] * 16 + ["https://x/b"] * 16 == sorted(found)


@pytest.fixture
def clock(monkeypatch):
    """The time of the epoch, to be moved by hand."""
    now_s = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now_s[0])

    def pass_by(seconds):
        now_s[0] += seconds

    return pass_by


@pytest.mark.parametrize(("lifetime_s", "margin_s"), [(3600.0, 60.0), (100.0, 20.0), (5.0, 1.0)])
async def test_a_location_is_renewed_in_time_before_it_expires_and_not_before(clock, lifetime_s, margin_s):
    source = Source(lifetime_s)
    locator = Locator(BLOBS, source.locate)

    await locator.current(1, LATER)
    clock(lifetime_s - margin_s - 0.1)
    await locator.current(1, LATER)
    assert ["a"] == source.asked
    clock(0.2)
    await locator.current(1, LATER)

    assert ["a", "a"] == source.asked


async def test_a_location_dated_by_another_clock_is_used_until_it_is_refused():
    source = Source(lifetime_s=-300.0)
    locator = Locator(BLOBS, source.locate)

    given = await locator.current(1, LATER)
    assert given is await locator.current(1, LATER)
    locator.refuse(1, given)

    assert given is not await locator.current(1, LATER)
    assert ["a", "a"] == source.asked


async def test_a_source_that_throttles_is_asked_about_nothing_for_as_long_as_it_says(mock_clock):
    mock_clock.autojump_threshold = float("inf")  # or it would jump while a thread asks
    source = Source()
    source.error = SourceThrottled("slow down", retry_after_s=56.0)
    locator = Locator(BLOBS, source.locate)
    for inode in (1, 2, 1):
        with pytest.raises(SourceThrottled) as raised:
            await locator.current(inode, LATER)
    assert ["a"] == source.asked
    assert 56.0 == pytest.approx(raised.value.retry_after_s, abs=1.0)

    source.error = None
    mock_clock.jump(56.0)

    assert "https://x/b" == (await locator.current(2, LATER)).url


async def test_a_source_that_throttles_is_still_used_for_what_it_has_said():
    source = Source()
    locator = Locator(BLOBS, source.locate)
    await locator.current(1, LATER)
    source.error = SourceThrottled("slow down", retry_after_s=56.0)
    with pytest.raises(SourceThrottled):
        await locator.current(2, LATER)

    assert "https://x/a" == (await locator.current(1, LATER)).url


async def test_a_refused_location_is_renewed_once_though_several_refuse_it():
    source = Source()
    locator = Locator(BLOBS, source.locate)
    first = await locator.current(1, LATER)

    locator.refuse(1, first)
    second = await locator.current(1, LATER)
    locator.refuse(1, first)

    assert second is await locator.current(1, LATER)
    assert ["a", "a"] == source.asked


async def test_an_error_is_told_and_the_next_asks_again():
    source = Source()
    source.error = AccessDenied("no")
    locator = Locator(BLOBS, source.locate)
    with pytest.raises(AccessDenied):
        await locator.current(1, LATER)

    source.error = None

    assert "https://x/a" == (await locator.current(1, LATER)).url


async def test_an_error_is_told_to_all_who_wait_each_its_own_and_the_source_is_asked_once():
    source = Source()
    source.error = SourceUnavailable("no token")
    locator = Locator(BLOBS, source.locate)
    raised = []

    async def ask():
        with pytest.raises(SourceUnavailable) as caught:
            await locator.current(1, LATER)
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(32):
            nursery.start_soon(ask)

    assert ["a"] == source.asked
    assert 32 == len({id(error) for error in raised})


async def test_a_location_that_is_soon_over_serves_all_who_waited_for_it():
    source = Source(lifetime_s=30.0)
    locator = Locator(BLOBS, source.locate)

    async with trio.open_nursery() as nursery:
        for _ in range(32):
            nursery.start_soon(locator.current, 1, LATER)

    assert ["a"] == source.asked


async def test_whoever_asked_first_may_go_away():
    source = Source()
    locator = Locator(BLOBS, source.locate)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with trio.open_nursery() as first:
                first.start_soon(locator.current, 1, LATER)
        nursery.start_soon(locator.current, 1, LATER)
        nursery.start_soon(locator.current, 1, LATER)

    assert 1 == len(source.asked)


@pytest.fixture
def hung():
    """A source that does not answer until the test is over."""
    over = threading.Event()
    source = Source()

    def hang(blob):
        source.asked.append(blob.name)
        over.wait(10)
        raise SourceUnavailable("over")

    source.locate = hang
    yield source
    over.set()


async def test_a_source_that_hangs_is_waited_for_no_longer_than_the_deadline(hung):
    locator = Locator(BLOBS, hung.locate)
    began_s = trio.current_time()

    with pytest.raises(SourceUnavailable, match="in time"):
        await locator.current(1, began_s + 0.1)

    assert trio.current_time() - began_s < 1


async def test_a_source_that_hangs_is_asked_anew_after_a_while_and_by_few_threads(hung, mock_clock):
    locator = Locator(BLOBS, hung.locate)
    mock_clock.autojump_threshold = float("inf")
    mock_clock.rate = 10_000

    for _ in range(2 * THREADS):
        began_s = trio.current_time()
        with pytest.raises(SourceUnavailable, match="in time"):
            await locator.current(1, LATER)
        assert trio.current_time() - began_s >= LOCATE_S

    assert len(hung.asked) <= THREADS


async def test_a_fault_of_the_source_is_told_as_it_is():
    source = Source()
    source.error = ZeroDivisionError()
    locator = Locator(BLOBS, source.locate)

    with pytest.raises(ZeroDivisionError):
        await locator.current(1, LATER)
