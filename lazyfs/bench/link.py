"""The link: how soon the first byte comes, and how much so many connections bring.

Ranges of the model's own files are read through lanes, as a mount reads them, and thrown away. Every step is
bounded in time and in bytes, and all of them together by a budget: bytes may cost money.
"""

import mmap
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lazyfs.bench.crew import Work, together
from lazyfs.bench.ranges import Ranges, worth_reading
from lazyfs.core.advice import Step
from lazyfs.core.blob import PAGE_BYTES, BlobRef
from lazyfs.core.location import Location
from lazyfs.errors import LazyfsError
from lazyfs.sources import Source
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted

CONNECTIONS = (1, 2, 4, 8, 16, 32)
FEW = 4
"""Steps with fewer connections get the bytes of this many: one connection may be fast."""
SHARES = sum(max(FEW, count) for count in CONNECTIONS)
PROBES = 20
PROBE_BYTES = 64 << 10
HELLO_BYTES = PAGE_BYTES
GAIN = 1.05
"""More connections that bring less than this much more, twice in a row, end the curve."""
IDLE_STEPS_MAX = 2
BUFFERS = 8
"""Lines share buffers, for nobody looks at what is in them: 32 of their own would fill a small container."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be fetched in all, in which pieces, and how long one step may last."""

    budget_bytes: int
    range_bytes: int
    step_s: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds: the first request with its connection; the first byte of others, and the slowest of twenty."""

    first_request_s: float
    median_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """A step, the CPU seconds a byte of it took, and what the first failure said."""

    step: Step
    cpu_s_per_byte: float
    trouble: str = ""


class _Line:
    """A lane and its buffer; `fetch` goes for one range."""

    def __init__(self, into: memoryview) -> None:
        self.lane = Lane()
        self._into = into

    def fetch(self, found: tuple[Location, Wanted], landed: Callable[[int], None]) -> float:
        """Fetch a range; return the seconds to its first byte."""
        location, wanted = found
        began_s = time.monotonic()
        receipt = self.lane.fetch(location, wanted, self._into[: wanted.span.size_bytes], landed)
        return receipt.first_byte_s or time.monotonic() - began_s  # a file's first byte is not told apart


class Link:
    """Measures one source; close it after."""

    def __init__(self, source: Source, blobs: Sequence[BlobRef], bounds: Bounds) -> None:
        spared = PROBES * PROBE_BYTES + len(CONNECTIONS) * max(CONNECTIONS) * HELLO_BYTES
        self._share_bytes = max(PAGE_BYTES, (bounds.budget_bytes - spared) // SHARES)
        self._range_bytes = min(bounds.range_bytes, self._share_bytes // PAGE_BYTES * PAGE_BYTES)
        self._ranges = Ranges(source, worth_reading(blobs, self._range_bytes))
        self._budget_bytes, self._step_s = bounds.budget_bytes, bounds.step_s
        self._lines: list[_Line] = []
        self._buffers: list[memoryview] = []
        self._lock = threading.Lock()
        self.asked_bytes = 0
        """Bytes of all ranges asked for so far."""

    @property
    def repeated(self) -> bool:
        """Whether some bytes were read twice, because the model is small."""
        return self._ranges.repeated

    def _take(self, size_bytes: int) -> tuple[Location, Wanted]:
        found = self._ranges.take(size_bytes)
        with self._lock:
            self.asked_bytes += found[1].span.size_bytes
        return found

    def _grow(self, count: int) -> list[_Line]:
        """Return `count` lines, made where they are missing."""
        while len(self._lines) < count:
            if len(self._buffers) < BUFFERS:
                self._buffers.append(_touched(max(self._range_bytes, PROBE_BYTES)))
            self._lines.append(_Line(self._buffers[len(self._lines) % BUFFERS]))
        return self._lines[:count]

    def latency(self) -> Latency:
        """Ask for small ranges, one after another.

        Raises:
            LazyfsError: when one of them cannot be had.

        """
        (line,) = self._grow(1)
        began_s = time.monotonic()
        line.fetch(self._take(HELLO_BYTES), _ignored)
        first_request_s = time.monotonic() - began_s
        seconds: list[float] = []
        while len(seconds) < PROBES and (not seconds or time.monotonic() - began_s < 2 * self._step_s):
            seconds.append(line.fetch(self._take(PROBE_BYTES), _ignored))
        seconds.sort()
        return Latency(first_request_s, statistics.median(seconds), seconds[(len(seconds) * 95 - 1) // 100])

    def curve(self, tell: Callable[[str], None]) -> list[Measurement]:
        """Measure with more and more connections, until more bring nothing, or fail.

        Only the last step may have failures, and never all of its connections.

        Raises:
            LazyfsError: when a single connection fails, or all of several do.

        """
        found: list[Measurement] = []
        best, idle = 0.0, 0
        for count in CONNECTIONS:
            if found and not self._affordable(count):
                break
            tell(f"Downloading over {count} connection{'s' if count > 1 else ''}")
            measured = self._measure(count)
            if measured.trouble and self._affordable(count):
                measured = self._measure(count)  # once is chance
            found.append(measured)
            rate = found[-1].step.bytes_per_s
            idle = 0 if rate > GAIN * best else idle + 1
            best = max(best, rate)
            if found[-1].trouble or idle == IDLE_STEPS_MAX:
                break
        return found

    def _step_bytes(self, count: int) -> int:
        return max(FEW, count) * self._share_bytes

    def _affordable(self, count: int) -> bool:
        """Tell whether the budget has room for a step."""
        return self.asked_bytes + count * HELLO_BYTES + self._step_bytes(count) <= self._budget_bytes

    def _measure(self, count: int) -> Measurement:
        lines = self._grow(count)
        step = _Running(self._take, self._step_bytes(count), self._range_bytes, self._step_s)
        together([step.hello(line) for line in lines])
        cpu_s = time.process_time()
        step.begin()
        together([step.work(line) for line in lines if line not in step.failed])
        cpu_s = time.process_time() - cpu_s
        if len(step.failed) == count or not step.landed_bytes:
            raise next(iter(step.failed.values()), LazyfsError("nothing came in time", "give more --seconds"))
        trouble = str(next(iter(step.failed.values()), ""))
        rate = step.bytes_per_s()
        return Measurement(Step(count, rate, len(step.failed)), cpu_s / step.landed_bytes, trouble)

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.lane.close()


class _Enough(Exception):
    """The step is over: ends a fetch that would take much longer."""


class _Running:
    """One step while it runs."""

    def __init__(
        self,
        take: Callable[[int], tuple[Location, Wanted]],
        share_bytes: int,
        range_bytes: int,
        step_s: float,
    ) -> None:
        self._take = take
        self._left_bytes = share_bytes
        self._range_bytes = range_bytes
        self._step_s = step_s
        self._lock = threading.Lock()
        self._began_s = self._end_s = 0.0
        self._landings: list[list[tuple[float, int]]] = []
        self.failed: dict[_Line, LazyfsError] = {}

    def hello(self, line: _Line) -> Work:
        """Return the work that opens a line's connection."""

        def work(_over: threading.Event) -> None:
            try:
                line.fetch(self._take(HELLO_BYTES), _ignored)
            except LazyfsError as error:
                self.failed[line] = error

        return work

    def begin(self) -> None:
        """Start the clock."""
        self._began_s = time.monotonic()
        self._end_s = self._began_s + self._step_s

    def work(self, line: _Line) -> Work:
        """Return the work of a line: range after range, until time or bytes are up."""
        landings = [(self._began_s, 0)]
        self._landings.append(landings)

        def work(over: threading.Event) -> None:
            while not over.is_set() and (found := self._next()) is not None:
                before = landings[-1][1]

                def landed(count: int, before: int = before) -> None:
                    now_s = time.monotonic()
                    landings.append((now_s, before + count))
                    if over.is_set() or now_s > self._end_s + self._step_s:
                        raise _Enough

                try:
                    line.fetch(found, landed)
                except _Enough:
                    return
                except LazyfsError as error:
                    self.failed[line] = error
                    return

        return work

    def _next(self) -> tuple[Location, Wanted] | None:
        """Return the next range; None when time or bytes are up, which is when the measurement ends."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._end_s and self._left_bytes >= self._range_bytes:
                self._left_bytes -= self._range_bytes
                return self._take(self._range_bytes)
            self._end_s = min(self._end_s, now_s)
            return None

    @property
    def landed_bytes(self) -> int:
        """All bytes that have come."""
        return sum(landings[-1][1] for landings in self._landings)

    def bytes_per_s(self) -> float:
        """Return the rate from the start until the first line had nothing more to do."""
        landed = sum(landed_by(self._end_s, landings) for landings in self._landings)
        return landed / max(self._end_s - self._began_s, 1e-9)


def landed_by(moment_s: float, landings: Sequence[tuple[float, int]]) -> float:
    """Return how many bytes had landed at a moment, from times and growing counts.

    Between two reports bytes came evenly: so what is on its way at the end counts for its part, however many
    connections there are.
    """
    for (before_s, before), (after_s, after) in pairwise(landings):
        if after_s >= moment_s:
            part = (moment_s - before_s) / (after_s - before_s) if after_s > before_s else 1.0
            return before + max(0.0, part) * (after - before)
    return landings[-1][1]


def _touched(size_bytes: int) -> memoryview:
    """Return memory that the system has really given, as a mount's is after its first blocks."""
    buffer = memoryview(mmap.mmap(-1, size_bytes))
    buffer[:] = bytes(size_bytes)
    return buffer


def _ignored(_count: int) -> None:
    """Nobody waits for these bytes."""
