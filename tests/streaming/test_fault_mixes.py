"""Many readers, and a server that does what servers do on their worst days, each time the same."""

import random

import pytest
import trio

from tests.faults.server import Behaviour, FaultServer
from tests.streaming.network import NetworkRig
from tests.streaming.rig import BLOCK

BLOBS = (16, 17, 18, 19)
BLOCKS, READERS = 100, 16
DEADLINE_S = 30.0


def fault(chance: random.Random, size: int) -> Behaviour:
    """One of all there are, at a random byte."""
    place = chance.randint(0, size)
    return chance.choice(
        [
            Behaviour(status=500),
            Behaviour(status=503),
            Behaviour(reset_after=place),
            Behaviour(cut_after=place),
            Behaviour(stall_after=place),
            Behaviour(delay_s=60.0),
            Behaviour(trickle_s=0.2),
            Behaviour(head_trickle_s=0.05),
            Behaviour(raw=b"garbage\r\n\r\n"),
            Behaviour(body=b"x" * (size - 1)),
            Behaviour(extra=b"xx", close=True, without=("Content-Length",)),
            Behaviour(without=("ETag",)),
            Behaviour(close=True),
            Behaviour(chunked=True),
        ]
    )


@pytest.mark.real
@pytest.mark.parametrize("share", [0.05, 0.2])
async def test_every_read_is_right_and_in_time_and_little_is_asked_for_twice(pattern_bytes, share):
    chance, server = random.Random(share), FaultServer()

    def behave(asked):
        start, stop = asked.span
        return fault(chance, stop - start) if chance.random() < share else Behaviour()

    server.behave = behave
    rig = NetworkRig(server, {i: pattern_bytes(BLOCKS * BLOCK, i) for i in BLOBS}, deadline_s=DEADLINE_S)
    wanted = [(inode, index) for inode in BLOBS for index in range(BLOCKS)]
    random.Random(1).shuffle(wanted)
    left, took = iter(wanted), []

    async def reader():
        for inode, index in left:
            took.append(await rig.result(inode, index))

    try:
        async with rig.running(), trio.open_nursery() as readers:
            for _ in range(READERS):
                readers.start_soon(reader)
    finally:
        server.close()

    assert len(wanted) == len(took)
    assert all(isinstance(found, float) for found in took)
    spans = [span for span in server.spans() if span is not None]
    assert sum(stop - start for start, stop in spans) < (1 + 1.5 * share + 0.1) * len(wanted) * BLOCK
