"""What is under way, for whoever reports it. Any thread may ask; nothing is changed."""

import math
from collections.abc import Mapping

import trio

from lazyfs.core.blob import BlockKey
from lazyfs.core.concurrency import Concurrency
from lazyfs.core.fetchqueue import Urgency
from lazyfs.streaming.flight import Flight, Tier
from lazyfs.streaming.pool import Pool
from lazyfs.streaming.waits import Wait, Waits

QUIET_S = 1.0
"""Who has read nothing for so long does something else."""


class Traffic:
    """A view of the loader's flights and pools."""

    def __init__(
        self,
        flights: Mapping[BlockKey, Flight],
        pools: Mapping[Tier, Pool],
        concurrency: Concurrency,
        waits: Waits,
    ) -> None:
        self._waits = waits
        self._flights = flights
        self._pools = pools
        self._concurrency = concurrency
        self.served_at_s = -math.inf
        """When a reader was last given something."""

    @property
    def connections_limit(self) -> int:
        """How many connections speculation may use now."""
        return self._concurrency.limit

    def oldest_wait(self) -> Wait | None:
        """Return the wait of the reader who has waited longest."""
        return self._waits.oldest()

    def resting(self) -> bool:
        """Tell whether nothing is on its way, and nobody reads: between two reads there may be no flight."""
        return not self._flights and trio.current_time() - self.served_at_s > QUIET_S

    def depth(self, urgency: Urgency) -> int:
        """Return how many blocks of this urgency wait for a lane."""
        return sum(pool.queue.depth(urgency) for pool in self._pools.values())

    def flying(self, tier: Tier) -> int:
        """Return how many blocks are being fetched from a tier."""
        return self._pools[tier].queue.in_flight_count

    @property
    def arriving_bytes(self) -> int:
        """Bytes that have come of the blocks now on their way from the network."""
        flights = [flight for flight in list(self._flights.values()) if flight.tier is Tier.NETWORK]
        return sum(flight.filled_bytes - flight.adopted_bytes for flight in flights if flight.block)
