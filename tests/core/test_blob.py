from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import HEAD, PAGE_BYTES, BlobRef, BlockKey, ByteRange, Grid, page_aligned

BLOCK = 2 * PAGE_BYTES
GRID = Grid(BLOCK)


@given(size=st.integers(0, 20 * BLOCK))
def test_blocks_tile_a_blob_without_gap_or_overlap(size):
    spans = [GRID.span(size, index) for index in range(GRID.count(size))]

    assert [0, *(span.stop for span in spans)] == [*(span.start for span in spans), size]
    assert all(0 < span.size_bytes <= BLOCK for span in spans)
    assert all(span.size_bytes == BLOCK for span in spans[:-1])


@given(start=st.integers(0, 10 * BLOCK), length=st.integers(0, 5 * BLOCK))
def test_a_cover_is_the_span_cut_at_block_borders(start, length):
    content = bytes(index % 251 for index in range(16 * BLOCK // PAGE_BYTES)) * PAGE_BYTES
    cuts = list(GRID.cover(ByteRange(start, start + length)))

    blocks = [content[i * BLOCK : (i + 1) * BLOCK] for i in range(16)]
    assert content[start : start + length] == b"".join(blocks[c.index][c.start : c.stop] for c in cuts)
    assert all(0 <= cut.start < cut.stop <= BLOCK for cut in cuts)


@given(size=st.integers(0, 10 * PAGE_BYTES))
def test_page_aligned_is_the_next_whole_page(size):
    aligned = page_aligned(size)

    assert aligned % PAGE_BYTES == 0
    assert size <= aligned < size + PAGE_BYTES


def blob(**changes):
    fields = {"name": "a", "origin": "s3://aws/b/a", "version": "1", "size_bytes": 3} | changes
    return BlobRef(**fields)


def test_the_store_key_is_the_publishers_sha256_when_there_is_one():
    digest = "ab" * 32

    assert digest == blob(digest=f"sha256:{digest}").store_key
    assert blob(digest="md5:123").store_key == blob().store_key


def test_the_store_key_tells_versions_origins_and_sizes_apart_and_not_names():
    keys = {
        blob().store_key,
        blob(version="2").store_key,
        blob(origin="s3://aws/b/c").store_key,
        blob(size_bytes=4).store_key,
    }

    assert 4 == len(keys)
    assert blob().store_key == blob(name="elsewhere/a").store_key
    assert 64 == len(blob().store_key)


def test_people_are_told_a_blocks_index_or_that_it_is_the_head():
    assert ("3", "head") == (BlockKey(16, 3).place, BlockKey(16, HEAD).place)
