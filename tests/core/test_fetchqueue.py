from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lazyfs.core.fetchqueue import FetchQueue, Urgency

DEMAND, READAHEAD, WARMUP = Urgency
keys = st.integers(0, 6)
urgencies = st.sampled_from(Urgency)


def test_demand_goes_first_and_within_an_urgency_first_come_first_served():
    queue: FetchQueue[str] = FetchQueue()
    for key, urgency in [("w1", WARMUP), ("r1", READAHEAD), ("d1", DEMAND), ("w2", WARMUP), ("d2", DEMAND)]:
        assert queue.request(key, urgency)

    taken = [queue.take() for _ in range(6)]

    expected = [("d1", DEMAND), ("d2", DEMAND), ("r1", READAHEAD), ("w1", WARMUP), ("w2", WARMUP), None]
    assert expected == taken


def test_a_more_urgent_request_promotes_and_a_less_urgent_one_changes_nothing():
    queue: FetchQueue[str] = FetchQueue()
    queue.request("a", WARMUP)

    assert queue.request("a", DEMAND)
    assert not queue.request("a", READAHEAD)
    assert 1 == queue.depth(DEMAND)
    assert 0 == queue.depth(WARMUP)
    assert ("a", DEMAND) == queue.head()


def test_a_key_in_flight_is_not_queued_again_until_its_flight_has_ended():
    queue: FetchQueue[str] = FetchQueue()
    queue.request("a", WARMUP)
    queue.take()

    assert not queue.request("a", DEMAND)
    assert 1 == queue.in_flight_count

    queue.finish("a")

    assert queue.request("a", DEMAND)


def test_a_lane_for_demand_takes_nothing_less():
    queue: FetchQueue[str] = FetchQueue()
    queue.request("a", READAHEAD)

    assert queue.take(DEMAND) is None
    assert ("a", READAHEAD) == queue.take(READAHEAD)


class Queue(RuleBasedStateMachine):
    """Against a model: what is queued (with its urgency), and what flies."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FetchQueue[int] = FetchQueue()
        self.waiting: dict[int, Urgency] = {}
        self.flying: Counter[int] = Counter()

    @rule(key=keys, urgency=urgencies)
    def request(self, key, urgency):
        changes = not self.flying[key] and urgency < self.waiting.get(key, Urgency.WARMUP + 1)
        assert changes == self.queue.request(key, urgency)
        if changes:
            self.waiting[key] = urgency

    @rule(least=urgencies)
    def take(self, least):
        taken = self.queue.take(least)
        if taken is None:
            assert not [key for key, urgency in self.waiting.items() if urgency <= least]
            return
        key, urgency = taken
        assert urgency == self.waiting.pop(key) == min([urgency, *self.waiting.values()])
        self.flying[key] += 1

    @precondition(lambda self: self.flying.total())
    @rule(data=st.data())
    def finish(self, data):
        key = data.draw(st.sampled_from(sorted(self.flying.elements())))
        self.queue.finish(key)
        del self.flying[key]

    @invariant()
    def each_key_flies_at_most_once(self):
        assert all(count == 1 for count in self.flying.values())
        assert self.flying.total() == self.queue.in_flight_count
        for urgency in Urgency:
            assert sum(u == urgency for u in self.waiting.values()) == self.queue.depth(urgency)


TestQueue = Queue.TestCase


@given(requests=st.lists(st.tuples(keys, urgencies)))
def test_what_is_requested_is_taken_in_the_end(requests):
    queue: FetchQueue[int] = FetchQueue()
    for key, urgency in requests:
        queue.request(key, urgency)

    taken = set()
    while (found := queue.take()) is not None:
        taken.add(found[0])

    assert {key for key, _ in requests} == taken


def test_a_key_that_is_adopted_is_in_flight_until_it_is_finished():
    queue = FetchQueue()
    queue.adopt("a")

    assert not queue.request("a", Urgency.DEMAND)
    assert 1 == queue.in_flight_count
    queue.finish("a")
    assert queue.request("a", Urgency.DEMAND)
