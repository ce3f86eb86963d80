"""How often the Hub is asked."""

import time

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.errors import SourceThrottled, SourceUnavailable
from lazyfs.sources import Access, open_source
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from tests.faults.server import Behaviour
from tests.sources.hub.asking import by_name, read, refused

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("style", "told"), [("s3", True), ("cloudfront", True), ("silent", False)])
def test_a_location_says_when_it_expires_if_its_url_does(hub, model, connect, style, told):
    hub.conduct.style, hub.conduct.expires_s = style, 600.0
    source = connect("hf://org/model")

    location = source.locate(by_name(source)["model.safetensors"])

    assert told == (location.expires_at_s is not None)
    assert not told or abs(location.expires_at_s - time.time() - 600) < 5


def test_the_clock_that_counts_is_the_hubs(hub, model, connect, monkeypatch):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    ours = time.time
    monkeypatch.setattr("lazyfs.sources.hub_client.time.time", lambda: ours() + 86_400)
    location = source.locate(blob)

    assert abs(location.expires_at_s - (ours() + 86_400 + 3600)) < 5


def test_ranges_are_read_without_asking_the_hub_again(hub, model, connect):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    location = source.locate(blob)
    hub.forget()
    lane = Lane()
    for start in range(0, 100_000, 10_000):
        into = memoryview(bytearray(10_000))
        lane.fetch(
            location, Wanted(ByteRange(start, start + 10_000), blob.size_bytes), into, lambda _count: None
        )
    lane.close()

    assert {"storage 206": 10} == hub.counts


def test_a_resolver_that_throttles_says_for_how_long(hub, model, connect):
    source = connect("hf://org/model")
    found = by_name(source)
    hub.conduct.throttled_share, hub.conduct.reset_s = 1.0, 55

    for work in (source.locate, lambda blob: read(source, blob)):
        error = refused(SourceThrottled, work, found["model.safetensors"])
        assert 56.0 == error.retry_after_s
    refused(SourceThrottled, read, source, found["config.json"])


@pytest.mark.logs("listing_throttled")
def test_a_listing_that_is_throttled_is_waited_for(hub, model, connect, monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        hub.conduct.throttled_api_share = 0.0

    hub.conduct.throttled_api_share, hub.conduct.reset_s = 1.0, 290
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", sleep)

    assert by_name(connect("hf://org/model"))
    assert [291.0] == slept


@pytest.mark.logs("listing_throttled")
def test_a_listing_that_is_throttled_again_and_again_is_given_up(hub, model, connect, monkeypatch):
    slept = []
    hub.conduct.throttled_api_share = 1.0
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", slept.append)

    assert "HF_TOKEN" in refused(SourceThrottled, by_name, connect("hf://org/model")).cure
    assert 5 == len(slept)


@pytest.mark.logs("listing_throttled")
@pytest.mark.parametrize(("after_s", "slept"), [("999999999", []), ("331", []), ("150", [150.0, 150.0])])
def test_a_listing_waits_for_one_window_in_all(server, monkeypatch, caplog, after_s, slept):
    waited = []
    server.behave = lambda _asked: Behaviour(status=429, headers={"Retry-After": after_s})
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", waited.append)
    source = open_source("hf://org/model", Access())

    error = refused(SourceThrottled, by_name, source)
    source.close()

    assert "HF_TOKEN" in error.cure
    assert f"{sum(slept):.0f} s" in error.cause
    assert slept == waited
    assert len(slept) == caplog.text.count("listing_throttled")


@pytest.mark.logs("listing_throttled")
def test_all_pages_of_a_listing_wait_for_one_window_together(hub, model, connect, monkeypatch):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        hub.conduct.throttled_api_share = 0.0

    source = connect("hf://org/model")
    hub.conduct.page_entries, hub.conduct.throttled_api_share, hub.conduct.reset_s = 2, 1.0, 199
    monkeypatch.setattr("lazyfs.sources.hub_client.time.sleep", sleep)
    remember = hub.remember

    def remember_and_throttle_the_next(asked):
        remember(asked)
        hub.conduct.throttled_api_share = float(asked.status == 200)

    monkeypatch.setattr(hub, "remember", remember_and_throttle_the_next)

    assert "after 200 s" in refused(SourceThrottled, by_name, source).cause
    assert [200.0] == waited


def test_a_resolver_that_fails_may_be_asked_again(hub, model, connect):
    source = connect("hf://org/model")
    blob = by_name(source)["model.safetensors"]
    hub.conduct.signs_nothing = True

    refused(SourceUnavailable, source.locate, blob)
