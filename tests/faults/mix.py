"""Seeded random mixes of faults: the same seed does the same to the same request, whatever thread is first.

What happens to a request follows from the seed, the object, where the range ends, and how often a range with
that end was asked for before. The end names a block: who lost a connection midway asks for the rest.
"""

import random
from collections import Counter
from collections.abc import Mapping

from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.server import Asked, Behaviour

WASTE = (
    "wrong range",
    "no Content-Range",
    "unsatisfied Content-Range",
    "truncated",
    "extended",
    "extended, without a length",
    "unknown framing",
)
"""What costs bytes: they are on their way before the client can tell that it must not take them."""

FLEETING: Mapping[str, float] = {
    **{
        row.name: 0.01
        for row in SCENARIOS.values()
        if row.passes and not row.slow and row.name not in {*WASTE, "good"}
    },
    # Refused twice in a row, with a new location in between, is denied, at once: not in ten thousand reads.
    **dict.fromkeys(("400", "401", "403"), 0.0005),
    **dict.fromkeys(WASTE, 0.004),
    "200 instead of 206": 0.002,
    "down for a while": 0.001,
}
"""Shares of all requests: a third goes wrong, and all of it passes. Nothing here takes patience."""

STALLS: Mapping[str, float] = {"silent": 0.004, "stalled in the head": 0.002, "stalled midway": 0.004}

FINAL: Mapping[str, float] = dict.fromkeys(("404", "412", "416", "wrong ETag", "405"), 0.002)
"""What ends a blob for a mount, with a clean error at once."""


class Mix:
    """Decides for every request; use it as a server's `behave`. Called by one thread at a time."""

    def __init__(self, seed: int, weights: Mapping[str, float] = FLEETING) -> None:
        assert sum(weights.values()) < 1
        self._seed = seed
        self._weights = weights
        self._asked: Counter[tuple[str, int]] = Counter()
        self.done: Counter[str] = Counter()
        """How often each scenario was played."""

    def __call__(self, asked: Asked) -> Behaviour:
        scenario, chance = self.draw(asked)
        self.done[scenario.name] += 1
        return scenario.make(asked, chance)

    def draw(self, asked: Asked) -> tuple[Scenario, random.Random]:
        """Return what is to happen to this request, and the chance to decide its details with."""
        path, stop = asked.path.partition("?")[0], asked.span[1] if asked.span else 0
        nth = self._asked[path, stop]
        self._asked[path, stop] += 1
        # Seeding from a string gives the same in every process (random.seed, version 2).
        chance = random.Random(f"{self._seed} {path} {stop} {nth}")
        place = chance.random()
        for name, share in self._weights.items():
            if place < share:
                return SCENARIOS[name], chance
            place -= share
        return SCENARIOS["good"], chance
