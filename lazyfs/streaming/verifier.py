"""Verifies complete blobs against their publisher's digest, while nobody waits for anything."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

import trio

from lazyfs.telemetry.metrics import DIGEST_MISMATCHES, Meter

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often it is looked for a blob that has become complete."""
SAMPLE_S = 0.05
"""How often a blob that is being hashed is held, or goes on, because readers have come or gone."""
LEAST_PRIORITY = 19
WRONG, LEFT = "wrong", "left"
"""What `Store.verify` returns, of what matters here."""


class Verifiable(Protocol):
    """`cache.store.Store`."""

    @property
    def unverified(self) -> list[int]:
        """The blobs that are complete, and have a digest that nobody has looked at."""

    def verify(self, inode: int, go_on: Callable[[], bool]) -> str:
        """Hash a blob; `go_on` is asked before every block. Blocks for seconds."""


class Verifier:
    """Hashes one blob at a time, in a thread of the least priority that stands still while somebody reads."""

    def __init__(
        self,
        store: Verifiable,
        resting: Callable[[], bool],
        meter: Meter,
        hear_wrong: Callable[[int], None] | None = None,
    ) -> None:
        """`hear_wrong` is told the inode of a blob that is not what its publisher says."""
        self._store = store
        self._resting = resting
        self._meter = meter
        self._hear_wrong = hear_wrong
        self._given_up: set[int] = set()

    async def run(self) -> None:
        """Verify what becomes complete, until cancelled."""
        while True:
            waiting = [inode for inode in self._store.unverified if inode not in self._given_up]
            if waiting and self._resting():
                await self._verify(waiting[0])
            else:
                await trio.sleep(LOOK_S)

    async def _verify(self, inode: int) -> None:
        job = _Job(self._store, inode, trio.lowlevel.current_trio_token())
        job.start()
        try:
            while not job.over.is_set():
                job.held = not self._resting()
                with trio.move_on_after(SAMPLE_S):
                    await job.over.wait()
        finally:
            job.wanted = False
        if job.verdict == WRONG:
            self._meter.add(DIGEST_MISMATCHES)
            if self._hear_wrong is not None:
                self._hear_wrong(inode)
        if job.verdict in {LEFT, None}:
            self._given_up.add(inode)


class _Job(threading.Thread):
    """The thread that hashes a blob. It is not waited for when the mount ends."""

    def __init__(self, store: Verifiable, inode: int, token: trio.lowlevel.TrioToken) -> None:
        super().__init__(name=f"verify-{inode}", daemon=True)
        self._store = store
        self._inode = inode
        self._token = token
        self.over = trio.Event()
        self.held = False
        self.wanted = True
        self.verdict: str | None = None

    def run(self) -> None:
        # Of this thread alone: on Linux a priority is a thread's.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_PRIORITY)
        try:
            self.verdict = self._store.verify(self._inode, self._go_on)
        except Exception:  # whatever it is, the mount goes on without
            log.exception("internal_error verifying=%d", self._inode)
        try:
            self._token.run_sync_soon(self.over.set)
        except trio.RunFinishedError:
            return

    def _go_on(self) -> bool:
        while self.held and self.wanted:
            time.sleep(SAMPLE_S)
        return self.wanted
