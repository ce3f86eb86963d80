from lazyfs.core.blob import PAGE_BYTES, BlobRef, BlockKey, Grid
from lazyfs.core.wholeplan import WholePlan

BLOCK = PAGE_BYTES


def whole(**blocks):
    blobs = {
        inode: BlobRef(name, "o", "v", round(count * BLOCK))
        for inode, (name, count) in enumerate(blocks.items(), start=100)
    }
    return WholePlan(blobs, Grid(BLOCK))


def drained(plan):
    keys = []
    while (key := plan.next_warm()) is not None:
        keys.append((key.inode, key.index))
    return keys


def test_every_block_comes_once_file_after_file_in_natural_order():
    plan = whole(shard10=1.5, empty=0, shard2=2)

    assert [(102, 0), (102, 1), (100, 0), (100, 1)] == drained(plan)
    assert () == plan.first_wanted()
    assert plan.next_warm() is None
    assert plan.exhausted


def test_what_is_on_its_way_does_not_come_and_what_failed_comes_again():
    plan = whole(a=2, b=1)
    plan.mark(BlockKey(100, 0))
    assert [(100, 1), (101, 0)] == drained(plan)

    plan.unmark(BlockKey(100, 1))

    assert [(100, 1)] == drained(plan)


def test_a_file_can_be_left_out_and_taken_in_again():
    plan = whole(a=2, b=1)
    plan.give_up(100)
    assert [(101, 0)] == drained(plan)

    plan.want(100)

    assert [(100, 0), (100, 1)] == drained(plan)
