import random

from tests.faults.mix import FINAL, FLEETING, STALLS, Mix
from tests.faults.scenarios import SCENARIOS
from tests.faults.server import Asked


def asked(path, index, start=None):
    start = index * 1000 if start is None else start
    return Asked(
        f"/b/{path}?X-Amz-Signature={random.random()}", {"range": f"bytes={start}-{index * 1000 + 999}"}, 1
    )


def drawn(mix, path, index, start=None):
    scenario, chance = mix.draw(asked(path, index, start))
    return scenario.name, chance.random()


def test_the_order_of_requests_changes_nothing():
    requests = [("a", 1), ("a", 2), ("b", 1), ("b", 7), ("c", 3)] * 40
    shuffled = random.Random(1).sample(requests, len(requests))

    def each(order):
        mix, found = Mix(5), {}
        for request in order:
            found.setdefault(request, []).append(drawn(mix, *request))
        return found

    assert each(requests) == each(shuffled)


def test_the_rest_of_a_range_is_the_next_try_of_it():
    whole, parts = Mix(9), Mix(9)

    assert [drawn(whole, "a", 1) for _ in range(100)] == [
        drawn(parts, "a", 1, 1000 + part) for part in range(100)
    ]


def test_another_seed_is_another_script():
    one, other = Mix(1), Mix(2)

    assert [drawn(one, "a", n) for n in range(200)] != [drawn(other, "a", n) for n in range(200)]


def test_shares_are_what_was_asked_for():
    mix = Mix(3, {"503": 0.25, "cut midway": 0.25})
    for number in range(4000):
        mix(asked("a", number))

    assert {"503", "cut midway", "good"} == set(mix.done)
    assert all(900 < mix.done[name] < 1100 for name in ("503", "cut midway"))


def test_the_mixes_hold_what_they_say():
    assert all(SCENARIOS[name].passes and not SCENARIOS[name].slow for name in FLEETING)
    assert all(SCENARIOS[name].slow for name in STALLS)
    assert not any(SCENARIOS[name].passes for name in FINAL)
