"""When blobs are verified: complete ones, once, while nobody reads; and what is done with the answer."""

import hashlib
import threading

import pytest
import trio
import trio.testing

from lazyfs.core.blob import BlobRef
from lazyfs.streaming.verifier import Verifier
from lazyfs.telemetry import metrics
from lazyfs.telemetry.metrics import Meter
from tests.cache.rig import SIZE, A, opened, write

CONTENT = {A: bytes(range(251)) * (SIZE // 251 + 1)}
CONTENT[A] = CONTENT[A][:SIZE]


def store_of(root, digest_of=CONTENT[A]):
    blob = BlobRef("a", "s3://x/a", "1", SIZE, "sha256:" + hashlib.sha256(digest_of).hexdigest())
    return opened(root, snapshot={A: blob})


async def until(condition):
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


async def running(nursery, store, resting=lambda: True):
    nursery.start_soon(Verifier(store, resting, Meter()).run)


async def in_a_mount(work):
    async with trio.open_nursery() as nursery:
        await work(nursery)
        nursery.cancel_scope.cancel()


def test_a_blob_is_verified_once_it_is_complete(tmp_path):
    store = store_of(tmp_path)

    async def work(nursery):
        await running(nursery, store)
        write(store, CONTENT, A, 0, 1, 2, 3)
        await until(lambda: store.verified_count == 1)

    trio.run(in_a_mount, work)


@pytest.mark.logs("digest_mismatch", "cache_blob_gone")
def test_one_that_is_wrong_is_counted_told_and_dropped(tmp_path):
    store, meter, told = store_of(tmp_path, b"another"), Meter(), []

    async def work(nursery):
        write(store, CONTENT, A, 0, 1, 2, 3)
        nursery.start_soon(Verifier(store, lambda: True, meter, told.append).run)
        await until(lambda: meter.value(metrics.DIGEST_MISMATCHES) == 1)

    trio.run(in_a_mount, work)
    assert 0 == store.stored_bytes
    assert [A] == told


def test_nothing_is_hashed_while_somebody_reads(tmp_path):
    store, resting = store_of(tmp_path), []

    async def work(nursery):
        write(store, CONTENT, A, 0, 1, 2, 3)
        await running(nursery, store, lambda: bool(resting))
        await trio.sleep(0.6)
        assert 0 == store.verified_count
        resting.append(True)
        await until(lambda: store.verified_count == 1)

    trio.run(in_a_mount, work)


class Asked:
    """A store whose one blob takes as long to verify as the test wants."""

    def __init__(self, verdict=None):
        self.unverified = [A]
        self.calls = 0
        self.went_on = threading.Event()
        self.told = None
        self.verdict = verdict

    def verify(self, _inode, go_on):
        self.calls += 1
        if self.verdict is None:
            raise RuntimeError
        self.went_on.set()
        while self.told is None or self.told:
            self.told = go_on()
        return self.verdict


def test_a_mount_that_ends_waits_for_no_hash_and_has_it_stopped():
    store = Asked("left")

    async def work(nursery):
        await running(nursery, store)
        await trio.to_thread.run_sync(store.went_on.wait, 10)

    trio.run(in_a_mount, work)

    for thread in threading.enumerate():
        if thread.name.startswith("verify-"):
            thread.join(10)
    assert False is store.told


@pytest.mark.logs("internal_error")
def test_a_fault_in_verifying_is_not_repeated():
    store = Asked()

    async def work(nursery):
        await running(nursery, store)
        await until(lambda: store.calls == 1)
        await trio.sleep(0.8)

    trio.run(in_a_mount, work)
    assert 1 == store.calls
