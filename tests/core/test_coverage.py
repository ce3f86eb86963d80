from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import ByteRange
from lazyfs.core.coverage import Coverage

spans = st.tuples(st.integers(0, 40), st.integers(0, 15)).map(lambda pair: ByteRange(pair[0], sum(pair)))


@given(st.lists(spans), spans)
def test_it_holds_what_was_added_and_nothing_else(added, asked):
    coverage, expected = Coverage(), set()
    for span in added:
        coverage.add(span)
        expected |= set(range(span.start, span.stop))

    assert coverage.holds(asked) == (set(range(asked.start, asked.stop)) <= expected)
