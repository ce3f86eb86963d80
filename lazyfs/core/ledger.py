"""Which blocks are in memory, what they cost, and which leave first.

One budget for the process, counted in blocks that live: in flight or landed. The ledger only decides; the
loader holds the buffers and lets go of what the ledger names.

A block's life: *in flight* -> *landed* -> maybe *read* -> *spent* (as many bytes served as it has); beside
that *settled*, once the store has it or has declined it. What leaves first, and for whom:

====  =====================================================  ======================
rank  block                                                  leaves for
====  =====================================================  ======================
0     spent and settled, or stored, read and idle for        anything
      `IDLE_S`: longest untouched first
1     stored, warmed up and unread, last landed first        anything, see below
2     spent, its write still pending, longest untouched      demand, read-ahead
3     stored, being read or read ahead, longest untouched    demand
4     any other that has landed, longest untouched first     demand
====  =====================================================  ======================

Rank 1 is last-landed first because warm-up moves forward: the last one landed is the one farthest ahead of
any reader. While a reader follows close behind (it has begun a new block within `FOLLOWING_S`), they do not
leave for warm-up: it would fetch and store blocks that the reader must then read back from disk, where
waiting a little for the reader costs nobody anything. A read-ahead block that nobody has read yet never
leaves for speculation, however old it is: a design that dropped the oldest halved the speed of a load. Rank 2
keeps a slow disk out of a reader's way.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from lazyfs.core.fetchqueue import Urgency

Key = TypeVar("Key", bound=Hashable)

IDLE_S = 1.0
FOLLOWING_S = 1.0
DEMAND_SHARE = 8
"""One part in this many of the budget is kept for demand: speculation never fills it."""
UNREAD = 1
"""The rank of what was warmed up and is unread."""


@dataclass(slots=True)
class _Entry:
    size_bytes: int
    urgency: Urgency
    order: int
    landed: bool = False
    read: bool = False
    served_bytes: int = 0
    settled: bool = False
    stored: bool = False
    touched_at_s: float = 0.0

    @property
    def spent(self) -> bool:
        """Whether as many bytes were served as the block has.

        The kernel asks for the pieces of a block out of order, so the last bytes do not mean the end.
        """
        return self.served_bytes >= self.size_bytes


@dataclass(frozen=True, slots=True)
class LedgerStatistics(Generic[Key]):
    """What a ledger has on its books."""

    keys: frozenset[Key]
    unspent: frozenset[Key]
    """Those that have landed, of which not as many bytes were served as they have."""


class Ledger(Generic[Key]):
    """The memory budget. All times are seconds of one monotonic clock, given by the caller."""

    def __init__(self, capacity_bytes: int, counts: Callable[[Key], bool] | None = None) -> None:
        """Begin empty; `counts` tells which blocks `landed_bytes` is of, if not of all."""
        self.capacity_bytes = capacity_bytes
        self._counts = counts
        self._entries: dict[Key, _Entry] = {}
        self._used_bytes = 0
        self.landed_bytes = 0
        """Bytes of the blocks that have landed, of those that count."""
        self._landings = 0
        self._begun_at_s = float("-inf")

    @property
    def used_bytes(self) -> int:
        """Bytes of all blocks in flight or landed."""
        return self._used_bytes

    def statistics(self) -> LedgerStatistics[Key]:
        """Return what is in memory, or admitted to it."""
        unspent = (key for key, entry in self._entries.items() if entry.landed and not entry.spent)
        return LedgerStatistics(frozenset(self._entries), frozenset(unspent))

    def admit(self, key: Key, size_bytes: int, urgency: Urgency, now_s: float) -> tuple[Key, ...] | None:
        """Make room for a flight of `key`.

        Returns the blocks that had to leave (the ledger has forgotten them), or None, with nothing changed,
        when there is no room now. A block that is alone may use the whole budget, and for demand more: a
        reader must get on.
        """
        assert key not in self._entries, "one block, one flight"
        limit = self.capacity_bytes
        if urgency is Urgency.DEMAND:
            limit = limit if self._entries else max(limit, size_bytes)
        elif self._entries:
            limit -= limit // DEMAND_SHARE
        victims = self._victims(self._used_bytes + size_bytes - limit, urgency, now_s)
        if victims is None:
            return None
        for victim in victims:
            self.drop(victim)
        self._entries[key] = _Entry(size_bytes, urgency, 0)
        self._used_bytes += size_bytes
        return victims

    def _victims(self, excess_bytes: int, urgency: Urgency, now_s: float) -> tuple[Key, ...] | None:
        """Choose blocks of at least `excess_bytes` that may leave for `urgency`."""
        if excess_bytes <= 0:
            return ()
        victims = []
        for key in self._ranked(urgency, now_s):
            victims.append(key)
            excess_bytes -= self._entries[key].size_bytes
            if excess_bytes <= 0:
                return tuple(victims)
        return None

    def _ranked(self, urgency: Urgency, now_s: float) -> list[Key]:
        """Return the blocks that may leave for `urgency`, in the order they would."""
        following = urgency is Urgency.WARMUP and now_s - self._begun_at_s < FOLLOWING_S
        ranked = []
        for key, entry in self._entries.items():
            rank = _rank(entry, urgency, now_s)
            if rank is not None and not (following and rank[0] == UNREAD):
                ranked.append((rank, key))
        ranked.sort(key=lambda candidate: candidate[0])
        return [key for _, key in ranked]

    def resize(self, capacity_bytes: int, now_s: float) -> tuple[Key, ...]:
        """Change the budget; return the blocks that had to leave. What is in flight stays, and counts."""
        self.capacity_bytes = capacity_bytes
        victims = []
        for key in self._ranked(Urgency.DEMAND, now_s):
            if self._used_bytes <= capacity_bytes:
                break
            victims.append(key)
            self.drop(key)
        return tuple(victims)

    def land(self, key: Key, now_s: float) -> None:
        """Say that the whole block is in memory."""
        entry = self._entries[key]
        self._landings += 1
        entry.landed, entry.order, entry.touched_at_s = True, self._landings, now_s
        self.landed_bytes += entry.size_bytes if self._is_counted(key) else 0

    def _is_counted(self, key: Key) -> bool:
        return self._counts is None or self._counts(key)

    def touch(self, key: Key, served_bytes: int, now_s: float) -> bool:
        """Say that a reader got so many bytes of the block; return whether that made it spent.

        Nothing happens if the block has left meanwhile.
        """
        entry = self._entries.get(key)
        if entry is None:
            return False
        if not entry.read:
            entry.read, self._begun_at_s = True, now_s
        before = entry.spent
        entry.touched_at_s = now_s
        entry.served_bytes += served_bytes
        return entry.spent and not before

    def settle(self, key: Key, *, stored: bool) -> None:
        """Say that the store has the block, or that it never will; nothing if the block has left."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.settled, entry.stored = True, stored

    def drop(self, key: Key) -> None:
        """Forget a block: it has left memory, or its flight has failed."""
        entry = self._entries.pop(key)
        self._used_bytes -= entry.size_bytes
        self.landed_bytes -= entry.size_bytes if entry.landed and self._is_counted(key) else 0

    def idle(self, stored_before_s: float, any_before_s: float) -> tuple[Key, ...]:
        """Return what may leave for lack of use.

        That is every stored block untouched since `stored_before_s`, and others that have settled and are
        untouched since `any_before_s`; but not one that was warmed up, is unread and will not be stored:
        warm-up would fetch another in its place, and so on through the model, for nothing.
        """
        found = []
        for key, entry in self._entries.items():
            unread = entry.urgency is Urgency.WARMUP and not entry.read
            if entry.landed and entry.settled and (entry.stored or not unread):
                before_s = stored_before_s if entry.stored else any_before_s
                if entry.touched_at_s < before_s:
                    found.append(key)
        return tuple(found)


def _rank(entry: _Entry, urgency: Urgency, now_s: float) -> tuple[int, float] | None:
    """Return the sort key of a block that may leave for `urgency`; None when it may not."""
    if not entry.landed:
        return None
    idle = entry.stored and entry.read and now_s - entry.touched_at_s >= IDLE_S
    if idle or (entry.spent and entry.settled):
        return 0, entry.touched_at_s
    if entry.stored and not entry.read and entry.urgency is Urgency.WARMUP:
        return UNREAD, -entry.order
    if entry.spent and urgency is not Urgency.WARMUP:
        return 2, entry.touched_at_s
    if urgency is not Urgency.DEMAND:
        return None
    return (3 if entry.stored else 4), entry.touched_at_s
