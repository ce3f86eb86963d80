import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lazyfs.core.fetchqueue import Urgency
from lazyfs.core.ledger import FOLLOWING_S, IDLE_S, Ledger

DEMAND, READAHEAD, WARMUP = Urgency
LONG = 100.0


def ledger_with(*blocks, capacity=800):
    """Landed blocks of 100 bytes: (key, urgency, read, spent, stored), landed at 0, 1, 2 ... seconds."""
    ledger: Ledger[str] = Ledger(capacity)
    for now, (key, urgency, read, spent, stored) in enumerate(blocks):
        assert ledger.admit(key, 100, urgency, now) is not None
        ledger.land(key, now)
        if read:
            ledger.touch(key, 100 if spent else 50, now)
        if stored is not None:
            ledger.settle(key, stored=stored)
    return ledger


def test_what_is_admitted_counts_until_it_is_dropped():
    ledger: Ledger[str] = Ledger(800)

    assert () == ledger.admit("a", 300, DEMAND, 0)
    assert () == ledger.admit("b", 300, WARMUP, 0)
    assert 600 == ledger.used_bytes

    ledger.drop("a")

    assert 300 == ledger.used_bytes


def test_only_what_counts_has_landed():
    ledger: Ledger[str] = Ledger(800, counts=lambda key: key != "spared")
    for key in ("a", "spared"):
        ledger.admit(key, 100, DEMAND, 0)
        ledger.land(key, 0)

    assert 100 == ledger.landed_bytes
    ledger.drop("spared")
    assert 100 == ledger.landed_bytes
    ledger.drop("a")
    assert 0 == ledger.landed_bytes


def test_one_part_of_the_budget_is_kept_for_demand():
    ledger: Ledger[str] = Ledger(800)
    ledger.admit("a", 650, WARMUP, 0)

    assert ledger.admit("b", 100, WARMUP, 0) is None
    assert ledger.admit("b", 100, READAHEAD, 0) is None
    assert () == ledger.admit("b", 100, DEMAND, 0)


def test_a_smaller_budget_makes_blocks_leave_in_their_order_and_flights_stay():
    ledger = ledger_with(
        ("unread", READAHEAD, False, False, None),
        ("spent", DEMAND, True, True, True),
        ("warm", WARMUP, False, False, True),
    )
    assert () == ledger.admit("flight", 100, READAHEAD, LONG)

    assert () == ledger.resize(400, LONG)
    assert ("spent",) == ledger.resize(300, LONG)
    assert ("warm", "unread") == ledger.resize(50, LONG)
    assert 100 == ledger.used_bytes
    assert ledger.admit("more", 10, DEMAND, LONG) is None


def test_a_larger_budget_holds_at_once():
    ledger: Ledger[str] = Ledger(100)
    assert () == ledger.admit("a", 100, DEMAND, 0)
    assert () == ledger.resize(300, 0)

    assert () == ledger.admit("b", 100, DEMAND, 0)


def test_flights_never_leave_however_urgent_the_newcomer():
    ledger: Ledger[str] = Ledger(100)
    ledger.admit("a", 100, DEMAND, 0)

    assert ledger.admit("b", 100, DEMAND, LONG) is None
    assert 100 == ledger.used_bytes


def test_a_block_over_the_whole_budget_is_admitted_alone_for_a_reader():
    ledger: Ledger[str] = Ledger(100)

    assert ledger.admit("a", 200, WARMUP, 0) is None
    assert () == ledger.admit("a", 200, DEMAND, 0)
    assert ledger.admit("b", 200, DEMAND, 0) is None


# name, urgency, read, spent, stored; and for whom it leaves, long after everything
SPENT_AND_STORED = ("x", WARMUP, True, True, True)
SPENT_AND_DECLINED = ("x", WARMUP, True, True, False)
READ_AND_IDLE = ("x", DEMAND, True, False, True)
WARM_AND_UNREAD = ("x", WARMUP, False, False, True)
SPENT_UNWRITTEN = ("x", WARMUP, True, True, None)
AHEAD_AND_STORED = ("x", READAHEAD, False, False, True)
AHEAD_AND_DECLINED = ("x", READAHEAD, False, False, False)
UNREAD_UNWRITTEN = ("x", WARMUP, False, False, None)


@pytest.mark.parametrize(
    ("block", "leaves_for"),
    [
        (SPENT_AND_STORED, {DEMAND, READAHEAD, WARMUP}),
        (SPENT_AND_DECLINED, {DEMAND, READAHEAD, WARMUP}),
        (READ_AND_IDLE, {DEMAND, READAHEAD, WARMUP}),
        (WARM_AND_UNREAD, {DEMAND, READAHEAD, WARMUP}),
        (SPENT_UNWRITTEN, {DEMAND, READAHEAD}),
        (AHEAD_AND_STORED, {DEMAND}),
        (AHEAD_AND_DECLINED, {DEMAND}),
        (UNREAD_UNWRITTEN, {DEMAND}),
    ],
)
def test_for_whom_a_block_leaves(block, leaves_for):
    left_for = set()
    for urgency in Urgency:
        ledger = ledger_with(block, capacity=115)
        if ledger.admit("new", 100, urgency, LONG) == ("x",):
            left_for.add(urgency)

    assert leaves_for == left_for


def test_a_block_that_is_being_read_leaves_for_demand_only():
    ledger = ledger_with(READ_AND_IDLE, capacity=115)

    assert ledger.admit("new", 100, WARMUP, IDLE_S / 2) is None
    assert ("x",) == ledger.admit("new", 100, DEMAND, IDLE_S / 2)


def test_spent_blocks_leave_longest_untouched_first_then_unread_ones_last_landed_first():
    ledger = ledger_with(
        ("s1", WARMUP, True, True, True),
        ("u1", WARMUP, False, False, True),
        ("s2", WARMUP, True, True, True),
        ("u2", WARMUP, False, False, True),
        capacity=460,
    )

    assert ("s1", "s2", "u2", "u1") == ledger.admit("new", 350, WARMUP, LONG)


def test_unread_blocks_stay_for_a_reader_that_follows():
    ledger = ledger_with(("u", WARMUP, False, False, True), ("r", WARMUP, True, False, True), capacity=230)
    began_at = 1

    assert ledger.admit("new", 100, WARMUP, began_at + FOLLOWING_S / 2) is None
    assert ("u",) == ledger.admit("new", 100, READAHEAD, began_at + FOLLOWING_S / 2)


def test_out_of_order_pieces_make_a_block_spent_when_all_of_it_was_served():
    ledger: Ledger[str] = Ledger(800)
    ledger.admit("a", 100, WARMUP, 0)
    ledger.land("a", 0)

    assert not ledger.touch("a", 40, 1)  # the end
    assert ledger.touch("a", 60, 1)  # the start
    assert not ledger.touch("a", 100, 2)  # once more


def test_a_block_that_has_left_can_be_touched_and_settled_without_effect():
    ledger: Ledger[str] = Ledger(800)

    assert not ledger.touch("gone", 10, 0)
    ledger.settle("gone", stored=True)

    assert 0 == ledger.used_bytes


def test_idle_names_stored_blocks_soon_and_others_late_and_never_unsettled_ones():
    ledger = ledger_with(
        ("stored", WARMUP, False, False, True),
        ("declined", WARMUP, True, False, False),
        ("unwritten", WARMUP, False, False, None),
        ("kept for its reader", WARMUP, False, False, False),
    )
    ledger.admit("flying", 100, WARMUP, 0)

    assert ("stored",) == ledger.idle(stored_before_s=5, any_before_s=0)
    assert ("stored", "declined") == ledger.idle(stored_before_s=5, any_before_s=5)
    assert () == ledger.idle(stored_before_s=0, any_before_s=0)


def test_a_block_that_is_alone_may_use_the_whole_budget_and_for_demand_more():
    assert () == Ledger(100).admit("a", 100, WARMUP, 0)
    assert None is Ledger(100).admit("a", 101, WARMUP, 0)
    assert () == Ledger(100).admit("a", 101, DEMAND, 0)


class Memory(RuleBasedStateMachine):
    """The bytes add up, whatever happens; a flight is never a victim."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[int] = Ledger(1000)
        self.sizes: dict[int, int] = {}
        self.flying: set[int] = set()
        self.serial = 0
        self.now = 0.0

    @rule(size=st.integers(1, 400), urgency=st.sampled_from(Urgency), wait=st.floats(0, 2))
    def admit(self, size, urgency, wait):
        self.now += wait
        self.serial += 1
        before = dict(self.sizes)
        victims = self.ledger.admit(self.serial, size, urgency, self.now)
        if victims is None:
            assert before == self.sizes
            return
        assert not self.flying & set(victims)
        for victim in victims:
            del self.sizes[victim]
        self.sizes[self.serial] = size
        self.flying.add(self.serial)
        assert self.ledger.used_bytes <= (1000 if urgency is DEMAND else 875)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), lands=st.booleans())
    def end_flight(self, data, lands):
        key = data.draw(st.sampled_from(sorted(self.flying)))
        self.flying.remove(key)
        if lands:
            self.ledger.land(key, self.now)
        else:
            self.ledger.drop(key)
            del self.sizes[key]

    @rule(data=st.data(), count=st.integers(1, 400), stored=st.none() | st.booleans())
    def use(self, data, count, stored):
        landed = sorted(self.sizes.keys() - self.flying)
        if landed:
            key = data.draw(st.sampled_from(landed))
            self.ledger.touch(key, count, self.now)
            if stored is not None:
                self.ledger.settle(key, stored=stored)

    @invariant()
    def the_sum_is_the_sum_of_the_parts(self):
        assert sum(self.sizes.values()) == self.ledger.used_bytes


TestMemory = Memory.TestCase


def test_what_was_not_served_as_often_as_it_has_bytes_is_unspent():
    ledger = ledger_with(("a", DEMAND, True, True, None), ("b", DEMAND, True, False, None))
    assert ledger.admit("c", 100, DEMAND, 5.0) is not None

    found = ledger.statistics()

    assert ({"a", "b", "c"}, {"b"}) == (found.keys, found.unspent)
