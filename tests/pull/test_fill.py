"""`lazyfs warm` says that it is done when the cache has everything, and not before."""

import os
import shutil
import threading
import time

import pytest

from lazyfs.cache import store
from lazyfs.cache.reading import StoredBlocks
from lazyfs.config import WarmOptions
from lazyfs.core.blob import BlockKey, Grid
from lazyfs.errors import CacheUnusable
from lazyfs.pull import fill as module
from lazyfs.pull.fill import fill
from lazyfs.streaming import race, writer
from lazyfs.transport.lane import Lane
from tests.pull.conftest import BLOCK

SAMPLES = 5
"""Whoever thinks that the end has come says so within this many looks."""
LAST = "model-2.safetensors"


class Filler:
    """Fills a cache from the source of a `puller`; `before` is called in a lane, before each request."""

    def __init__(self, puller, cache_dir):
        self.puller, self.cache_dir = puller, cache_dir
        self.before = lambda _name, _start: None
        self.looked = 0
        self.looked_often = threading.Event()

    def __call__(self, **options):
        self.puller.fetched.clear()
        options = {"cache_dir": self.cache_dir, "block_size": BLOCK, **options}
        return fill(f"file://{self.puller.source}", WarmOptions(**options), self._look)

    def _look(self, _seen):
        self.looked += 1
        if self.looked >= SAMPLES:
            self.looked_often.set()

    def evict(self, count, name):
        """Take a blob out of the cache once `count` blocks are in it, as another process does for room."""
        self.wait_for(count)
        for blob in self.cache_dir.glob("v*/objects/??/*"):
            if name in (blob / "meta.json").read_text():
                shutil.rmtree(blob)

    def wait_for(self, count, name=""):
        """Wait until so many blocks of files whose names begin so are in the cache."""
        deadline = time.monotonic() + 60
        while self._stored(name) < count:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _stored(self, name):
        blobs = dict(enumerate(self.puller.published.list()))
        stored = StoredBlocks(self.cache_dir, Grid(BLOCK), blobs)
        for inode in blobs:
            stored.look(inode)
        keys = (
            BlockKey(i, index)
            for i, b in blobs.items()
            if b.name.startswith(name)
            for index in range(-(-b.size_bytes // BLOCK))
        )
        return sum(map(stored.has, keys))


@pytest.fixture
def filler(puller, cache_dir, monkeypatch):
    found = Filler(puller, cache_dir)
    monkeypatch.setattr(module, "connect", lambda _address, _options: puller.published)
    monkeypatch.setattr(module, "SAMPLE_S", 0.01)
    monkeypatch.setattr("lazyfs.pull.watching.SAMPLE_S", 0.01)
    puller.published.silent = {"model-1.safetensors", LAST, "deep/er/tokenizer.json", "empty"}
    fetch = Lane.fetch

    def hindered(lane, location, wanted, into, landed):
        found.before(location.url.rpartition("/")[2], wanted.span.start)
        return fetch(lane, location, wanted, into, landed)

    monkeypatch.setattr(race.Lane, "fetch", hindered)
    return found


def test_it_does_not_end_while_requests_are_under_way(filler):
    filler.before = lambda _name, _start: filler.looked_often.wait(10)

    filled = filler(connections=16)

    assert filled.size_bytes == filled.stored_bytes == filled.network_bytes
    filler.puller.fetched.clear()
    assert 0 == filler().network_bytes
    assert not filler.puller.fetched


def test_it_does_not_end_while_the_last_request_stalls(filler):
    def stalls(name, start):
        if (name, start) == (LAST, 2 * BLOCK):
            filler.looked_often.wait(10)

    filler.before = stalls

    filled = filler()

    assert filled.size_bytes == filled.stored_bytes


@pytest.mark.logs("cache_blob_gone", "warm_lost")
def test_what_is_evicted_while_it_fills_comes_again(filler):
    def evicts_once(name, start):
        if (name, start) == (LAST, 2 * BLOCK):
            filler.before = lambda _name, _start: None
            filler.evict(9, LAST)

    filler.before = evicts_once

    filled = filler(connections=1)

    assert filled.size_bytes == filled.stored_bytes
    assert 0 == filler().network_bytes


def test_what_is_evicted_unseen_is_said_and_is_not_done(filler):
    def evicts(name, start):
        if (name, start) == (LAST, 2 * BLOCK):
            filler.evict(9, "model-1.safetensors")

    filler.before = evicts

    with pytest.raises(CacheUnusable, match=r"MB of model-1.safetensors came and are not in"):
        filler(connections=1)

    filler.before = lambda _name, _start: None
    assert filler().size_bytes == filler().stored_bytes


@pytest.mark.logs("internal_error", "warm_lost")
def test_a_block_that_a_bug_keeps_out_of_the_cache_ends_it(filler, monkeypatch):
    def buggy(*_arguments, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr(store, "write_block", buggy)

    with pytest.raises(CacheUnusable, match="are not in the cache"):
        filler()


@pytest.mark.logs("cache_trouble")
def test_a_disk_that_does_not_answer_ends_it(filler, monkeypatch):
    monkeypatch.setattr(writer, "WRITE_PATIENCE_S", 0.05)
    over = threading.Event()
    monkeypatch.setattr(store, "write_block", lambda *_arguments, **_options: over.wait(10))

    with pytest.raises(CacheUnusable, match="does not take a block: writing: it does not answer within"):
        filler()
    over.set()


@pytest.mark.logs("cache_file_damaged")
@pytest.mark.parametrize("left_bytes", [0, 4096, BLOCK])
def test_what_was_cut_off_a_file_of_the_cache_comes_again(filler, left_bytes):
    filler()
    (data,) = [
        blob / "data"
        for blob in filler.cache_dir.glob("v*/objects/??/*")
        if "model-1" in (blob / "meta.json").read_text()
    ]
    size_bytes = data.stat().st_size
    os.truncate(data, left_bytes)

    filler()
    assert {"model-1.safetensors"} == {name for name, _ in filler.puller.fetched}
    assert size_bytes == data.stat().st_size
    filler()
    assert [] == filler.puller.fetched


def test_a_file_that_is_cut_while_it_fills_is_not_done(filler):
    def cut(name, start):
        if name == LAST and start == 2 * BLOCK:
            filler.wait_for(6, "model-1")
            for data in filler.cache_dir.glob("v*/objects/??/*/data"):
                if "model-1" in data.with_name("meta.json").read_text():
                    os.truncate(data, 4096)

    filler.before = cut
    with pytest.raises(CacheUnusable, match="model-1"):
        filler()
