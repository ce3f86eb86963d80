"""Which reads are the kernel's own tries after one that failed."""

from lazyfs.core.blob import ByteRange
from lazyfs.core.repeats import REPEAT_S, TRIES, Repeats

A, B = 16, 17
SPAN = ByteRange(100, 200)


def failed_at(now_s, since_s=1.0):
    found = Repeats()
    found.failed(A, SPAN, since_s, now_s)
    return found


def since_s(repeats, inode, span, now_s):
    found = repeats.repeated(inode, span, now_s)
    return None if found is None else found.since_s


def test_a_read_of_what_has_just_failed_goes_on_with_that_wait():
    found = failed_at(10.0)

    assert 1.0 == since_s(found, A, ByteRange(150, 160), 10.0)
    assert 1.0 == since_s(found, A, ByteRange(199, 300), 10.0 + REPEAT_S)


def test_a_read_of_something_else_begins_a_wait():
    found = failed_at(10.0)

    assert None is since_s(found, B, SPAN, 10.0)
    assert None is since_s(found, A, ByteRange(0, 100), 10.0)
    assert None is since_s(found, A, ByteRange(200, 300), 10.0)


def test_a_read_that_comes_later_begins_a_wait():
    assert None is since_s(failed_at(10.0), A, SPAN, 10.1 + REPEAT_S)


def test_of_several_reads_that_failed_the_longest_wait_counts():
    found = failed_at(10.0, since_s=5.0)
    found.failed(A, ByteRange(150, 250), 4.0, 10.0)

    assert 4.0 == since_s(found, A, ByteRange(160, 170), 10.5)
    assert 5.0 == since_s(found, A, ByteRange(100, 110), 10.5)


def test_a_page_fault_has_its_repeats_and_who_comes_after_them_is_another_reader():
    found = failed_at(10.0)
    tried = []
    for _ in range(TRIES + 1):
        before = found.repeated(A, SPAN, 10.5)
        tried.append(before.tried)
        before.repeats += 1

    assert [False] * TRIES + [True] == tried
