"""What a connection that stalls costs the reader who waits for it, in terms of what a read costs anyway."""

import mmap
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lazyfs.demo.seaweed import free_ports
from tests.chaos.stage import BLOCK, number, seed, staged
from tests.e2e.mounting import metrics
from tests.faults.pattern import Pattern
from tests.faults.scenarios import SCENARIOS
from tests.faults.server import Behaviour

pytestmark = pytest.mark.chaos

STALLS = number("STALLS", 2)
COUNT = 12 * STALLS
PAGE = 4096
FIRST_BYTE_S = 0.1


class Stalling:
    """A link with some time to the first byte, on which the first requests for some blocks stall."""

    def __init__(self, seed_, doomed):
        self._seed = seed_
        self._left = {(index + 1) * BLOCK for index in doomed}

    def __call__(self, asked):
        chance = random.Random(f"{self._seed} {asked.span}")
        if asked.span[1] in self._left:
            self._left.remove(asked.span[1])
            return SCENARIOS[chance.choice(["silent", "stalled in the head", "stalled midway"])].make(
                asked, chance
            )
        return Behaviour(delay_s=FIRST_BYTE_S * (1 + chance.random()))


def last_page(fd, pattern, index):
    """Read the last page of a block, for which all of the block must have come; return how long that took."""
    start = (index + 1) * BLOCK - PAGE
    with mmap.mmap(-1, PAGE) as into:
        began_s = time.monotonic()
        assert PAGE == os.preadv(fd, [into], start)
        took_s = time.monotonic() - began_s
        assert pattern.matches(start, into[:])
    return took_s


# Among several, a request is late only once the others are ahead of it by as much as it should have brought.
@pytest.mark.parametrize("readers", [1, 4])
def test_stalls_are_overtaken_and_what_they_cost_is_printed(tmp_path, readers):
    chosen = seed()
    pattern = Pattern(1, 2 * COUNT * BLOCK)
    (port,) = free_ports(1)
    options = ("--block-size", BLOCK, "--policy", "demand", "--http", f"127.0.0.1:{port}")
    with staged(tmp_path, {"model-001.bin": pattern}, *options) as stage:
        fd = os.open(stage.mount.path / "model-001.bin", os.O_RDONLY | os.O_DIRECT)
        order = random.Random(chosen).sample(range(2 * COUNT), 2 * COUNT)
        doomed = order[COUNT :: COUNT // STALLS]
        stage.bucket.behave = Stalling(chosen, doomed)

        def times(indices):
            with ThreadPoolExecutor(readers) as pool:
                return sorted(pool.map(lambda index: last_page(fd, pattern, index), indices))

        usual, stalled = times(order[:COUNT]), times(order[COUNT:])
        os.close(fd)
        overtaken = metrics(port)["lazyfs_hedges_won_total"]

    p99_s, longest_s = usual[len(usual) * 99 // 100], stalled[-1]
    print(f"{len(doomed)} of {COUNT} stalled; p99 {p99_s:.3f} s, longest {longest_s / p99_s:.2f} x that")
    assert overtaken >= len(doomed)
