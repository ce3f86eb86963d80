"""Loader and store against a dictionary: whatever happens, a read is its bytes or the error that explains it.

The machine draws what readers, the network and the disk do; time moves by rules too. What it holds:

* a read returns exactly the dictionary's bytes, or raises what the network did to one of its blocks, and
  trouble that may pass not before the deadline; it never waits for ever;
* one flight per block; memory within its budget; ledger and block memory agree; what a block says it has is
  right, at all times.

Hypothesis shrinks a failure to the shortest story. `make chaos` tells longer ones.
"""

import os
import shutil
import tempfile
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lazyfs.cache.directory import open_directory
from lazyfs.cache.store import Terms, open_store
from lazyfs.core.blob import HEAD, PAGE_BYTES, BlockKey, ByteRange
from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.manifest import build
from lazyfs.core.plan import Policy
from lazyfs.core.repeats import REPEAT_S
from lazyfs.errors import AccessDenied, BlobChanged, LazyfsError, SourceThrottled, SourceUnavailable
from tests.faults.pattern import Pattern
from tests.streaming.looping import Looping
from tests.streaming.rig import BLOCK, GRID, Rig, refs_of

DEADLINE_S, ROUNDING_S = 60.0, 1e-6
SIZES = {16: 4 * BLOCK + 100, 17: 3 * BLOCK, 18: PAGE_BYTES + 1}
CONTENTS = {inode: bytes(Pattern(inode, size)[:]) for inode, size in SIZES.items()}

inodes = st.sampled_from(sorted(SIZES))
fates = st.one_of(
    st.just(("fine", 0.0)),
    st.tuples(st.just("slow"), st.floats(0.1, 20.0)),
    st.tuples(st.just("cut"), st.floats(0.0, 1.0)),
    st.just(("throttled", 3.0)),
    st.sampled_from([("denied", 0.0), ("bug", 0.0), ("changed", 0.0)]),
)
KINDS = {"denied": AccessDenied, "bug": LazyfsError, "changed": BlobChanged}


@dataclass
class Read:
    """A read under way, and what came of it."""

    inode: int
    span: ByteRange
    began_at_s: float
    before: int
    """How many fates had been met when it began."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: bool = False

    @property
    def keys(self) -> set[BlockKey]:
        return {BlockKey(self.inode, cut.index) for cut in GRID.cover(self.span)} | {
            BlockKey(self.inode, HEAD)
        }


class Loading(RuleBasedStateMachine):
    """One mount after another on one cache directory."""

    def __init__(self) -> None:
        super().__init__()
        self.looping = Looping()
        self.cache = Path(tempfile.mkdtemp(prefix="lazyfs-model-"))
        self.fates: deque[tuple[str, float]] = deque()
        self.met: list[tuple[str, BlockKey]] = []
        self.outage = False
        self.flying: Counter[BlockKey] = Counter()
        self.reads: list[Read] = []
        self.faults: list[str] = []
        self.failed: list[tuple[int, ByteRange, float]] = []

    @initialize(
        policy=st.sampled_from(Policy),
        memory_blocks=st.integers(2, 8),
        connections=st.integers(1, 3),
        head_bytes=st.sampled_from([0, PAGE_BYTES]),
        budget_blocks=st.sampled_from([2, 1000]),
    )
    def mount(self, budget_blocks: int, **options: object) -> None:
        self.options = options
        self.budget_bytes = budget_blocks * BLOCK
        self.looping.run(self._mount)

    async def _mount(self) -> None:
        refs = refs_of(CONTENTS)
        manifest = build("s", refs.values())
        store = open_store(open_directory(self.cache), GRID, refs, manifest, Terms(self.budget_bytes))
        self.rig = Rig(CONTENTS, deadline_s=DEADLINE_S, disk=store, **self.options)  # type: ignore[arg-type]
        self.rig.fetcher.network = self._network
        self.changed: set[int] = set()
        self.running = await self.looping.nursery.start(self._serve, self.rig)
        await self._settle()

    async def _serve(self, rig: Rig, task_status: "trio.TaskStatus[trio.CancelScope]") -> None:
        with trio.CancelScope() as scope:
            async with rig.running():
                task_status.started(scope)
                await trio.sleep_forever()

    async def _settle(self) -> None:
        """Wait until nothing happens any more but by time."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            writer = self.rig.writer.statistics()
            if not writer.pending and not writer.threads:
                return

    async def _network(self, flight) -> None:
        self.flying[flight.key] += 1
        self._expect(self.flying[flight.key] == 1, f"two flights of {flight.key}")
        try:
            await self._meet(flight)
        finally:
            self.flying[flight.key] -= 1

    async def _meet(self, flight) -> None:
        if self.outage:
            raise SourceUnavailable("away")
        kind, amount = self.fates.popleft() if self.fates else ("fine", 0.0)
        self.met.append((kind, flight.key))
        await trio.lowlevel.checkpoint()
        if kind == "slow":
            await trio.sleep(amount)
        elif kind == "cut":
            have, size = flight.block.filled_bytes, flight.block.size_bytes
            self.rig.fetcher.fill(flight, have + int((size - have) * amount))
            raise SourceUnavailable("reset")
        elif kind == "throttled":
            raise SourceThrottled("slow down", retry_after_s=amount)
        elif kind == "bug":
            raise ValueError("a bug")
        elif kind in KINDS:
            self.changed |= {flight.key.inode} if kind == "changed" else set()
            raise KINDS[kind](kind)

    # -- what readers do ---------------------------------------------------------------------------------

    @rule(inode=inodes, start=st.integers(0, 6 * BLOCK), length=st.integers(1, 3 * BLOCK))
    def begin_a_read(self, inode: int, start: int, length: int) -> None:
        start = min(start, SIZES[inode] - 1)
        self.looping.run(self._begin, inode, ByteRange(start, min(start + length, SIZES[inode])))

    async def _begin(self, inode: int, span: ByteRange) -> None:
        read = Read(inode, span, trio.current_time(), len(self.met))
        self.reads.append(read)
        self.looping.nursery.start_soon(self._read, read)
        await self._settle()

    async def _read(self, read: Read) -> None:
        with read.scope:
            try:
                now = self.rig.reader.read_now(read.inode, read.span)
                got = await self.rig.reader.read(read.inode, read.span) if now is None else now
            except LazyfsError as error:
                self._expect(self._explained(read, error), f"{error!r} of {read}")
            else:
                right = CONTENTS[read.inode][read.span.start : read.span.stop] == bytes(got)
                self._expect(right, f"wrong bytes of {read}")
        read.done = True

    def _explained(self, read: Read, error: LazyfsError) -> bool:
        """Tell whether this is an error that this read may end with."""
        if isinstance(error, SourceUnavailable):
            self.failed.append((read.inode, read.span, trio.current_time()))
            waited_s = trio.current_time() - read.began_at_s
            return waited_s >= DEADLINE_S - ROUNDING_S or self._repeats(read)
        if isinstance(error, BlobChanged):
            return read.inode in self.changed
        met = {kind for kind, key in self.met[read.before :] if key in read.keys}
        return type(error) in {KINDS[kind] for kind in met if kind in KINDS}

    def _repeats(self, read: Read) -> bool:
        """Tell whether the kernel would have sent this read, too, for the reader of one that had failed."""
        return any(
            inode == read.inode
            and 0 <= read.began_at_s - at_s <= REPEAT_S
            and max(span.start, read.span.start) < min(span.stop, read.span.stop)
            for inode, span, at_s in self.failed
        )

    def _expect(self, holds: bool, otherwise: str) -> None:
        """Note what must not be, for `nothing_wrong_was_seen`: here an exception would end in the loop."""
        if not holds:
            self.faults.append(otherwise)

    @rule(number=st.integers(0, 100))
    def cancel_a_read(self, number: int) -> None:
        self.looping.run(self._cancel, number)

    async def _cancel(self, number: int) -> None:
        if self.reads:
            self.reads[number % len(self.reads)].scope.cancel()
            await self._settle()

    @rule()
    def finish_reads(self) -> None:
        self.looping.run(self._finish)

    async def _finish(self) -> None:
        began_at_s = trio.current_time()
        while not all(read.done for read in self.reads):
            await self.looping.jump()
            await self._settle()
            assert trio.current_time() - began_at_s < 5 * DEADLINE_S, "a read that never ends"
        self.reads.clear()

    @rule(
        inode=inodes,
        indexes=st.lists(st.integers(0, 5), min_size=1, max_size=4),
        urgency=st.sampled_from([Urgency.READAHEAD, Urgency.WARMUP]),
    )
    def hint(self, inode: int, indexes: list[int], urgency: Urgency) -> None:
        count = GRID.count(SIZES[inode])

        async def hint() -> None:
            self.rig.loader.hint([BlockKey(inode, index % count) for index in indexes], urgency)
            await self._settle()

        self.looping.run(hint)

    # -- what the world does -----------------------------------------------------------------------------

    @rule(seconds=st.floats(0.1, DEADLINE_S - 1.0))
    def time_passes(self, seconds: float) -> None:
        async def pass_by() -> None:
            until_s = trio.current_time() + seconds
            while trio.current_time() < until_s:
                await self.looping.jump()
                await self._settle()

        self.looping.run(pass_by)

    @rule(more=st.lists(fates, min_size=1, max_size=6))
    def trouble_is_ahead(self, more: list[tuple[str, float]]) -> None:
        self.fates.extend(more)

    @rule()
    def the_source_goes_away_or_comes_back(self) -> None:
        self.outage = not self.outage

    @rule(
        inode=inodes,
        starts=st.lists(st.sampled_from([0, 10, PAGE_BYTES, BLOCK]), min_size=2, max_size=3),
        seconds=st.floats(0.1, DEADLINE_S - 1.0),
        anew=st.booleans(),
    )
    def an_outage_outlasts_readers(self, inode: int, starts: list[int], seconds: float, anew: bool) -> None:
        self.outage = True
        if anew:
            self.restart()
        for start in starts:
            self.begin_a_read(inode, start, 10)
            self.time_passes(seconds)
        self.finish_reads()
        self.outage = False

    @rule()
    def restart(self) -> None:
        self.looping.run(self._restart)

    async def _restart(self) -> None:
        for read in self.reads:
            read.scope.cancel()
        self.running.cancel()
        await trio.testing.wait_all_tasks_blocked()
        self.reads.clear()
        await self._mount()

    @rule(what=st.sampled_from(["flip", "cut", "remove", "table"]), inode=inodes, place=st.floats(0, 1))
    def damage(self, what: str, inode: int, place: float) -> None:
        directory = open_directory(self.cache).blob_path(refs_of(CONTENTS)[inode].store_key)
        path = directory / ("blocks" if what == "table" else "data")
        if not path.exists():
            return
        size = path.stat().st_size
        if what == "remove":
            shutil.rmtree(directory)
        elif what == "cut":
            os.truncate(path, int(size * place))
        else:
            flip(path, min(int(size * place), size - 1))

    # -- what holds --------------------------------------------------------------------------------------

    @invariant()
    def nothing_wrong_was_seen(self) -> None:
        assert [] == self.faults

    @invariant()
    def memory_is_accounted_for(self) -> None:
        if hasattr(self, "rig"):
            self.looping.run(self._account)

    async def _account(self) -> None:
        ledger, blocks = self.rig.ledger, self.rig.memory.statistics().blocks
        assert ledger.used_bytes <= ledger.capacity_bytes
        assert ledger.statistics().keys == set(blocks)
        assert ledger.used_bytes == sum(block.size_bytes for block in blocks.values())
        for key, flight in self.rig.loader.statistics().flights.items():
            assert flight.block is None or blocks[key] is flight.block
        for key, block in blocks.items():
            start = max(key.index, 0) * BLOCK
            stop = start + block.filled_bytes
            assert CONTENTS[key.inode][start:stop] == bytes(block.cut(0, block.filled_bytes))

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self.outage = False
                self.looping.run(self._finish)
            self.nothing_wrong_was_seen()
        finally:
            self.looping.close()
            shutil.rmtree(self.cache, ignore_errors=True)


def flip(path: Path, place: int) -> None:
    if place < 0:
        return
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


Loading.TestCase.settings = settings(max_examples=settings().max_examples // 3, stateful_step_count=25)
TestLoading = pytest.mark.logs(
    "cache_too_small",
    "block_corrupt",
    "cache_blob_gone",
    "cache_file_damaged",
    "cache_not_mended",
    "cache_table_rejected",
    "cache_trouble",
    "fetch_failed",
    "internal_error",
)(Loading.TestCase)
