"""What lies under a digest has that digest, whoever claims it; and only that is shared between origins."""

import hashlib
import json
from dataclasses import replace

import pytest

from lazyfs.cache.directory import open_directory
from lazyfs.cache.places import own
from lazyfs.cache.store import Outcome
from lazyfs.cache.verification import Verdict
from lazyfs.core.blob import BlobRef, BlockKey, Grid
from lazyfs.errors import BlockCorrupt, BlockGone
from tests.cache.rig import BLOCK, SIZE, A, opened, read, write

HERE, THERE = "s3://bucket/a", "hf://owner/model/a"


def published(content, origin=HERE) -> dict[int, BlobRef]:
    return {A: BlobRef("a", origin, "1", SIZE, "sha256:" + hashlib.sha256(content[A]).hexdigest())}


def go_on() -> bool:
    return True


def store_of(root, content, origin=HERE, **others):
    return opened(root, snapshot=published(content, origin), **others)


def filled(root, content, origin=HERE):
    store = store_of(root, content, origin)
    write(store, content, A, 0, 1, 2, 3)
    return store


def verified(root, content):
    store = filled(root, content)
    assert Verdict.RIGHT == store.verify(A, go_on)
    return store


def whole(store, content):
    return content[A] == b"".join(read(store, A, index) for index in range(4))


def shared_path(root, content):
    return open_directory(root).blob_path(published(content)[A].store_key)


def test_what_was_not_verified_is_used_by_its_own_origin_alone(cache_dir, content):
    filled(cache_dir, content)

    assert whole(store_of(cache_dir, content), content)
    assert 0 == store_of(cache_dir, content, THERE).stored_bytes


@pytest.mark.logs("digest_mismatch", "cache_blob_gone")
def test_a_claim_about_other_bytes_never_reaches_another_origin(cache_dir, content, caplog):
    lies = {A: replace(published(content)[A], origin="s3://evil/a")}
    evil = opened(cache_dir, snapshot=lies)
    write(evil, {A: bytes(SIZE)}, A, 0, 1, 2, 3)

    assert Verdict.WRONG == evil.verify(A, go_on)

    assert 0 == store_of(cache_dir, content).stored_bytes
    assert "digest_mismatch blob='a' origin='s3://evil/a'" in caplog.text


def test_what_was_verified_is_every_origins_and_there_once(cache_dir, content):
    store = verified(cache_dir, content)

    other = store_of(cache_dir, content, THERE)

    assert whole(store, content)
    assert whole(other, content)
    assert 1 == store.verified_count == other.verified_count
    assert [published(content)[A].store_key] == [
        blob.store_key for blob in open_directory(cache_dir).stored()
    ]
    assert json.loads((shared_path(cache_dir, content) / "meta.json").read_bytes())["verified_at"] > 0


def test_where_it_must_be_proven_a_digest_leads_only_to_what_ones_own_origin_has_sent(cache_dir, content):
    first = verified(cache_dir, content)
    other = store_of(cache_dir, content, THERE, proven=True)
    assert 0 == other.stored_bytes

    write(other, content, A, 0, 1, 2, 3)
    assert Verdict.RIGHT == other.verify(A, go_on)

    for origin in (HERE, THERE):
        assert whole(store_of(cache_dir, content, origin, proven=True), content)
    assert whole(first, content)
    assert 1 == len(open_directory(cache_dir).stored())
    assert 0 == store_of(cache_dir, content, "https://elsewhere/a", proven=True).stored_bytes


def test_two_origins_that_load_at_once_end_with_one_copy(cache_dir, content):
    here, there = filled(cache_dir, content), filled(cache_dir, content, THERE)
    assert 2 == len(open_directory(cache_dir).stored())

    assert [Verdict.RIGHT] * 2 == [here.verify(A, go_on), there.verify(A, go_on)]

    assert 1 == len(open_directory(cache_dir).stored())
    assert whole(here, content)
    assert whole(there, content)


def test_a_mount_of_the_same_origin_finds_it_where_it_went(cache_dir, content):
    first, second = filled(cache_dir, content), store_of(cache_dir, content)
    first.verify(A, go_on)

    with pytest.raises(BlockGone):
        read(second, A, 0)

    assert whole(second, content)


@pytest.mark.logs("cache_trouble")
def test_a_damaged_block_of_a_verified_blob_is_mended_only_by_itself(cache_dir, content):
    store = verified(cache_dir, content)
    with (shared_path(cache_dir, content) / "data").open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(BlockCorrupt):
        read(store, A, 0)

    assert [Outcome.STORED] == write(store, content, A, 0)

    assert 1 == store.verified_count
    assert whole(store_of(cache_dir, content, THERE), content)


@pytest.mark.logs("cache_trouble", "cache_blob_gone")
def test_other_bytes_in_a_damaged_blocks_place_end_its_being_shared(cache_dir, content):
    store = verified(cache_dir, content)
    with (shared_path(cache_dir, content) / "data").open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(BlockCorrupt):
        read(store, A, 0)

    write(store, {A: bytes(SIZE)}, A, 0)

    assert 0 == store.verified_count
    assert not shared_path(cache_dir, content).exists()
    assert bytes(BLOCK) == read(store, A, 0)


@pytest.mark.logs("cache_file_damaged", "cache_blob_gone")
@pytest.mark.parametrize("file", ["data", "blocks"])
def test_a_verified_blob_whose_files_are_damaged_is_fetched_again(cache_dir, content, file):
    verified(cache_dir, content)
    (shared_path(cache_dir, content) / file).unlink()

    store = store_of(cache_dir, content, THERE)

    assert 0 == store.stored_bytes
    assert not shared_path(cache_dir, content).exists()
    assert [Outcome.REPAIRED] == write(store, content, A, 0)


def test_damage_found_while_verifying_is_forgotten_and_nothing_is_shared(cache_dir, content):
    store = filled(cache_dir, content)
    own_path = open_directory(cache_dir).blob_path(own(published(content)[A]).store_key)
    with (own_path / "data").open("r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"damage")

    assert Verdict.DAMAGED == store.verify(A, go_on)

    assert [False, True] == [store.has(BlockKey(A, index)) for index in (2, 3)]
    assert not shared_path(cache_dir, content).exists()


def test_verifying_ends_when_it_is_not_wanted(cache_dir, content):
    store = filled(cache_dir, content)

    assert Verdict.LEFT == store.verify(A, lambda: False)

    assert [A] == store.unverified


@pytest.mark.logs("cache_table_rejected")
def test_a_mount_with_blocks_of_another_size_leaves_a_verified_blob_alone(cache_dir, content):
    verified(cache_dir, content)

    store = store_of(cache_dir, content, THERE, grid=Grid(2 * BLOCK))

    assert 0 == store.stored_bytes
    assert whole(store_of(cache_dir, content), content)


@pytest.mark.logs("cache_blob_gone")
def test_a_verified_blob_that_was_evicted_is_made_anew_where_only_its_origin_finds_it(cache_dir, content):
    store = verified(cache_dir, content)
    open_directory(cache_dir).discard(published(content)[A].store_key)

    with pytest.raises(BlockGone):
        read(store, A, 0)
    write(store, content, A, 0, 1, 2, 3)

    assert Verdict.RIGHT == store.verify(A, go_on)
    assert whole(store_of(cache_dir, content, THERE), content)


def test_only_what_is_complete_and_has_a_digest_can_be_verified(cache_dir, content):
    store = store_of(cache_dir, content)
    write(store, content, A, 0, 1, 2)
    assert [] == store.unverified

    write(store, content, A, 3)
    assert [A] == store.unverified

    store.verify(A, go_on)
    assert [] == store.unverified


def claim_of_a_key(content):
    """A blob whose publisher gives for its digest the name under which another origin's bytes are kept."""
    return {A: BlobRef("x", "https://evil/x", "1", SIZE, f"sha256:{own(published(content)[A]).store_key}")}


def own_data(root, content):
    return open_directory(root).blob_path(own(published(content)[A]).store_key) / "data"


def test_a_digest_that_is_the_name_of_what_another_origin_has_sent_leads_nowhere(cache_dir, content):
    """Whoever knows what is listed elsewhere can work out the name it has here."""
    filled(cache_dir, content)

    assert 0 == opened(cache_dir, snapshot=claim_of_a_key(content)).stored_bytes


def test_a_digest_that_is_the_name_of_what_is_half_there_takes_nothing_away(cache_dir, content):
    write(store_of(cache_dir, content), content, A, 0)

    opened(cache_dir, snapshot=claim_of_a_key(content))

    assert own_data(cache_dir, content).exists()
