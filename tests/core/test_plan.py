import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import HEAD, PAGE_BYTES, BlobRef, BlockKey, ByteRange, Grid
from lazyfs.core.plan import STREAMS_MAX, Planner, Policy, head_bytes, natural_key, warm_order

BLOCK = 4 * PAGE_BYTES
GRID = Grid(BLOCK)


def model(**sizes):
    """Blobs by inode (100, 101 ...), named and sized (in blocks) as given."""
    return {
        inode: BlobRef(name.replace("__", "."), "o", "v", round(blocks * BLOCK))
        for inode, (name, blocks) in enumerate(sizes.items(), start=100)
    }


def planner(blobs, policy=Policy.MODEL, window=8):
    return Planner(blobs, GRID, policy, window)


def drained(found):
    keys = []
    while (key := found.next_warm()) is not None:
        keys.append((key.inode, key.index))
    return keys


def span(block, blocks=1.0):
    return ByteRange(int(block * BLOCK), int((block + blocks) * BLOCK))


def test_small_files_and_heads_come_first_then_shards_in_natural_order():
    blobs = model(
        model_10__safetensors=2,
        config__json=0.1,
        model_9__safetensors=3,
        model_2__safetensors=2,
        readme__txt=1.5,
    )
    found = Planner(blobs, GRID, Policy.MODEL, head_bytes=PAGE_BYTES)

    first = [(key.inode, key.index) for key in found.first_wanted()]
    for key in found.first_wanted():
        found.mark(key)

    assert [(101, 0), (103, 0), (102, HEAD), (100, HEAD)] == first
    then = [(103, 1), (102, 0), (102, 1), (102, 2), (100, 0), (100, 1), (104, 0), (104, 1)]
    assert then == drained(found)


def test_without_heads_the_first_blocks_come_first():
    found = planner(model(b__safetensors=2, a__safetensors=2))

    assert [(101, 0), (100, 0)] == [(key.inode, key.index) for key in found.first_wanted()]


@pytest.mark.parametrize("policy", [Policy.FILE, Policy.DEMAND])
def test_nothing_comes_first_unless_the_model_is_wanted(policy):
    assert [] == planner(model(a__safetensors=2, b__json=0.1), policy).first_wanted()


@pytest.mark.parametrize(
    ("shards", "block_mb", "memory_mb", "expected_kb"),
    [
        (1, 8, 400, 0),
        (2, 8, 400, 1024),
        (32, 8, 400, 1024),
        (65, 8, 400, 512),
        (65, 8, 100, 200),
        (1000, 8, 400, 0),
        (4, 1, 400, 0),
    ],
)
def test_heads_take_a_bounded_part_of_memory(shards, block_mb, memory_mb, expected_kb):
    blobs = {inode: BlobRef(f"{inode}.safetensors", "o", "v", 9 << 20) for inode in range(shards)}

    assert expected_kb == head_bytes(blobs, block_mb << 20, memory_mb << 20) >> 10


def test_other_formats_of_the_same_weights_come_last():
    blobs = model(pytorch__bin=2, a__safetensors=2, z__gguf=2, tokenizer__model=2)

    assert [101, 103, 100, 102] == warm_order(blobs)
    assert [100, 103, 102] == warm_order({i: b for i, b in blobs.items() if i != 101})


def test_what_is_spared_is_not_warmed_but_read_ahead_of_like_any_file():
    blobs = model(a__safetensors=2, pytorch_model__bin=20, small__bin=0.5)
    found = Planner(blobs, GRID, Policy.MODEL, 4, spared=frozenset({101, 102}))

    assert [BlockKey(100, 0)] == found.first_wanted()
    assert [(100, 0), (100, 1)] == drained(found)
    found.observe(101, span(0), missed=True)
    assert (BlockKey(101, 2),) == found.observe(101, span(1), missed=True)
    assert [] == drained(found)


def test_a_file_policy_fetches_a_spared_file_that_somebody_reads():
    blobs = model(a__safetensors=2, b__bin=3)
    found = Planner(blobs, GRID, Policy.FILE, spared=frozenset({101}))

    found.observe(101, span(0), missed=True)

    assert [(101, 0), (101, 1), (101, 2)] == drained(found)


sizes = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(sizes, st.data())
def test_warm_up_fetches_every_block_once_whatever_is_read_meanwhile(file_sizes, data):
    blobs = model(**{f"f{number}__safetensors": size for number, size in enumerate(file_sizes)})
    found = planner(blobs)
    everything = {(i, index) for i, b in blobs.items() for index in range(GRID.count(b.size_bytes))}
    keys = []
    while True:
        key = found.next_warm()
        if key is None:
            break
        keys.append((key.inode, key.index))
        if everything and data.draw(st.booleans()):
            inode, index = data.draw(st.sampled_from(sorted(everything)))
            found.observe(inode, span(index), missed=True)

    assert sorted(everything) == sorted(keys)


def test_a_demand_miss_re_aims_to_the_rest_of_that_file_then_the_next_then_what_was_skipped():
    blobs = model(a__safetensors=4, b__safetensors=4, c__safetensors=3)
    found = planner(blobs)
    assert [(100, 0), (100, 1)] == [(k.inode, k.index) for k in (found.next_warm() for _ in range(2)) if k]

    found.observe(101, span(1.5, 0.5), missed=True)
    found.observe(101, span(2), missed=False)

    after = [(101, 2), (101, 3), (102, 0), (102, 1), (102, 2), (100, 2), (100, 3), (101, 0), (101, 1)]
    assert after == drained(found)


def test_a_hit_does_not_re_aim():
    found = planner(model(a__safetensors=3, b__safetensors=3))
    found.observe(101, span(2), missed=False)

    assert [(100, 0), (100, 1), (100, 2)] == drained(found)[:3]


def test_what_is_marked_is_not_fetched_and_what_is_unmarked_is_fetched_again():
    found = planner(model(a__safetensors=3))
    found.mark(BlockKey(100, 0))
    found.mark(BlockKey(100, 1))

    assert [(100, 2)] == drained(found)

    found.unmark(BlockKey(100, 1))

    assert [(100, 1)] == drained(found)


def test_a_blob_that_was_given_up_is_left_out():
    found = planner(model(a__safetensors=3, b__safetensors=2))
    found.give_up(100)

    assert [(101, 0), (101, 1)] == drained(found)


def test_policy_file_warms_up_what_was_read_from_and_policy_demand_nothing():
    blobs = model(a__safetensors=2, b__safetensors=3)
    by_file, by_demand = planner(blobs, Policy.FILE), planner(blobs, Policy.DEMAND)
    assert [] == drained(by_file)

    by_file.observe(101, span(1), missed=True)
    by_demand.observe(101, span(1), missed=True)

    assert [(101, 0), (101, 1), (101, 2)] == drained(by_file)
    assert [] == drained(by_demand)


def test_an_empty_snapshot_has_nothing_to_warm_up():
    assert planner({}).next_warm() is None


def proposals(found, inode, spans):
    return [key.index for s in spans for key in found.observe(inode, s, missed=False)]


@given(pieces=st.sampled_from([0.25, 0.5, 1.0]), window=st.integers(1, 8))
def test_a_sequential_scan_is_read_ahead_each_block_once_never_beyond_window_or_blob(pieces, window):
    found = planner(model(a__safetensors=20), Policy.DEMAND, window)
    proposed = []
    for step in range(int(20 / pieces)):
        keys = found.observe(100, span(step * pieces, pieces), missed=False)
        current = int((step + 1) * pieces * BLOCK - 1) // BLOCK
        assert all(current < key.index <= current + window for key in keys)
        proposed += [key.index for key in keys]

    assert sorted(set(proposed)) == proposed
    assert set(range(2, 20)) <= set(proposed) <= set(range(1, 20))


def test_of_several_models_one_is_warmed_up_after_the_other():
    blobs = model(b__safetensors=2, other__bin=2, a__safetensors=2)
    second = {inode: blobs[inode] for inode in (101, 102)}
    found = Planner(blobs, GRID, Policy.MODEL, models=[{100: blobs[100]}, second])

    assert [(100, 0), (100, 1), (102, 0), (102, 1), (101, 0), (101, 1)] == drained(found)


def test_the_kernels_order_of_requests_does_not_break_a_stream():
    found = planner(model(a__safetensors=10), Policy.DEMAND, 2)

    shuffled = [span(0, 0.5), span(1, 0.5), span(0.5, 0.5), span(1.5, 0.5), span(2.5, 0.5), span(2, 0.5)]

    assert [2, 3, 4] == proposals(found, 100, shuffled)


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=200))
def test_random_small_reads_are_hardly_read_ahead(pages):
    found = planner(model(a__safetensors=1000), Policy.DEMAND)
    spans = [ByteRange(page * 1024, page * 1024 + 64) for page in pages]

    assert len(proposals(found, 100, spans)) <= len(pages) * 64 // BLOCK * 8 + 8


def test_several_streams_in_one_file_are_each_read_ahead():
    found = planner(model(a__safetensors=100), Policy.DEMAND, 4)

    proposed = set()
    for step in range(6):
        for start in (0, 30, 60, 90):
            proposed |= {k.index for k in found.observe(100, span(start + step), missed=False)}

    for start in (0, 30, 60, 90):
        assert set(range(start + 2, start + 8)) <= proposed


def test_a_scan_from_the_end_is_read_ahead_downwards_each_block_once():
    found = planner(model(a__safetensors=20))
    steps = [span(place / 2, 0.5) for place in range(39, 10, -1)]

    keys = proposals(found, 100, steps)

    assert keys == sorted(keys, reverse=True)
    assert len(keys) == len(set(keys))
    assert set(range(6)) & set(keys)
    assert not set(range(18, 20)) & set(keys)


def test_what_was_read_is_not_read_ahead_until_the_kernel_asks_for_it_again():
    found = planner(model(a__safetensors=12))
    for block in range(12):
        found.observe(100, span(block), missed=False)

    assert () == found.observe(100, span(2), missed=False) + found.observe(100, span(3), missed=False)

    found.observe(100, span(2), missed=True)
    assert found.observe(100, span(3), missed=False)


def test_a_touch_far_ahead_does_not_re_aim():
    found = planner(model(a__safetensors=30))
    found.observe(100, span(20, 0.1), missed=True)

    assert (100, 0) == drained(found)[0]


def test_streams_are_bounded_and_the_oldest_is_forgotten():
    found = planner(model(a__safetensors=1000), Policy.DEMAND)
    for number in range(STREAMS_MAX + 5):
        found.observe(100, span(number * 10, 0.1), missed=False)

    assert STREAMS_MAX == found.statistics().streams


def test_natural_order_counts():
    names = ["model-10.safetensors", "model-9.safetensors", "model.safetensors", "model-1-of-10.safetensors"]

    assert [
        "model-1-of-10.safetensors",
        "model-9.safetensors",
        "model-10.safetensors",
        "model.safetensors",
    ] == sorted(names, key=natural_key)


def test_what_is_taken_back_after_the_end_is_warmed_up_again():
    planner = Planner({16: BlobRef("a.safetensors", "o", "v", 3 * GRID.block_bytes)}, GRID, Policy.MODEL)
    while planner.next_warm() is not None:
        pass

    planner.unmark(BlockKey(16, 1))

    assert BlockKey(16, 1) == planner.next_warm()
    assert None is planner.next_warm()
    assert None is planner.next_warm()


def test_warm_up_is_over_when_a_look_around_finds_nothing_and_goes_on_for_what_is_taken_back():
    found = planner(model(a__safetensors=2))
    assert not found.exhausted
    drained(found)
    assert found.exhausted

    found.unmark(BlockKey(100, 1))

    assert not found.exhausted


def test_what_warm_up_leaves_out_does_not_begin_it_anew():
    found = planner(model(a__safetensors=2), Policy.DEMAND)
    assert found.exhausted

    found.unmark(BlockKey(100, 1))

    assert found.exhausted


def test_a_head_that_does_not_come_is_no_block_that_warm_up_comes_back_to():
    found = planner(model(a__safetensors=2))
    drained(found)

    found.unmark(BlockKey(100, HEAD))

    assert found.exhausted
