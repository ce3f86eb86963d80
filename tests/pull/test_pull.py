"""What a pull takes for right, what it takes for there, and what it does when something is not."""

import errno
import os
import shutil
import stat
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lazyfs.cache.directory import CacheDirectory
from lazyfs.config import PullOptions, WarmOptions
from lazyfs.errors import BlobChanged, CacheUnusable, DigestMismatch, TargetUnusable
from lazyfs.pull import parts, run
from lazyfs.pull.destination import Destination
from lazyfs.pull.fill import fill
from lazyfs.streaming import flight
from tests.pull.conftest import BLOCK


def fetched_bytes(puller):
    return sum(span.size_bytes for _, span in puller.fetched)


def test_all_files_are_there_with_their_times_and_readable_by_others(puller):
    before = os.umask(0o022)
    try:
        outcome = puller()
    finally:
        os.umask(before)

    assert puller.right()
    assert outcome.network_bytes == fetched_bytes(puller) == outcome.size_bytes
    for name in puller.names():
        there, here = (puller.target / name).stat(), (puller.source / name).stat()
        assert here.st_mtime_ns == there.st_mtime_ns
        assert 0o644 == stat.S_IMODE(there.st_mode)


def test_a_second_pull_fetches_and_reads_nothing(puller, monkeypatch):
    puller()
    monkeypatch.setattr(Destination, "matches", None)

    outcome = puller()

    assert not puller.fetched
    assert outcome.kept_bytes == outcome.size_bytes


def test_files_that_somebody_else_put_there_are_told_by_their_digest(puller):
    shutil.copytree(puller.source, puller.target)
    os.utime(puller.target / "model-1.safetensors", (1, 1))
    (puller.target / "model-2.safetensors").write_bytes(bytes(3 * BLOCK))

    puller()

    assert {"model-2.safetensors"} == {name for name, _ in puller.fetched}
    assert puller.right()


def test_without_a_digest_a_file_that_no_pull_put_there_is_fetched_again(puller):
    shutil.copytree(puller.source, puller.target)
    puller.published.silent = {"model-1.safetensors"}

    puller()

    assert {"model-1.safetensors"} == {name for name, _ in puller.fetched}


@pytest.mark.parametrize("spoil", ["content", "size", "gone"])
def test_a_file_that_was_changed_since_is_fetched_again(puller, spoil):
    puller.published.silent = puller.names() | {"model-2.safetensors"}
    puller()
    path = puller.target / "model-2.safetensors"
    if spoil == "content":
        path.write_bytes(bytes(3 * BLOCK))
    elif spoil == "size":
        os.truncate(path, 5)
    else:
        path.unlink()

    puller()

    assert {"model-2.safetensors"} == {name for name, _ in puller.fetched}
    assert puller.right()


def test_another_file_of_the_same_size_and_time_is_not_taken_for_the_one_recorded(puller):
    puller.published.silent = {"model-2.safetensors"}
    puller()
    path = puller.target / "model-2.safetensors"
    state = path.stat()
    (puller.target / "other").write_bytes(bytes(3 * BLOCK))
    os.utime(puller.target / "other", ns=(state.st_mtime_ns, state.st_mtime_ns))
    (puller.target / "other").rename(path)

    puller()

    assert puller.right()


def test_a_new_version_replaces_the_old_one(puller, pattern_bytes):
    puller()
    (puller.source / "model-2.safetensors").write_bytes(pattern_bytes(3 * BLOCK, 9))
    os.utime(puller.source / "model-2.safetensors", (5, 5))

    puller()

    assert {"model-2.safetensors"} == {name for name, _ in puller.fetched}
    assert puller.right()


@pytest.mark.logs("digest_mismatch")
def test_a_wrong_digest_keeps_its_file_out_and_no_other(puller, caplog):
    puller.published.wrong = {"model-1.safetensors"}

    with pytest.raises(
        DigestMismatch, match=r"model-1.safetensors is not what its publisher says: sha256:"
    ) as error:
        puller()

    assert "0" * 64 in error.value.cause
    assert {"model-2.safetensors", "deep/er/tokenizer.json", "empty"} == puller.names()
    assert "digest_mismatch" in caplog.text
    puller.published.wrong = set()
    puller()
    assert {"model-1.safetensors"} == {name for name, _ in puller.fetched}
    assert puller.right()


def interrupted(puller, monkeypatch, blocks):
    """Pull until so many blocks are written; then the disk refuses."""
    write, left = parts.Parts.write, [blocks]

    def refusing(self, key, content):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        write(self, key, content)

    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "write", refusing)
        with pytest.raises(TargetUnusable, match="No space left on device"):
            puller()


def test_what_an_earlier_pull_has_left_is_not_fetched_again(puller, monkeypatch):
    interrupted(puller, monkeypatch, 4)

    outcome = puller()

    assert puller.right()
    kept = outcome.kept_bytes + outcome.found_bytes
    assert kept >= 3 * BLOCK
    assert fetched_bytes(puller) == outcome.size_bytes - kept
    assert not list((puller.target / ".lazyfs" / "parts").iterdir())


@pytest.mark.logs("block_corrupt")
def test_what_is_left_is_checked_before_it_is_used(puller, monkeypatch):
    puller.published.silent = {"model-1.safetensors"}
    interrupted(puller, monkeypatch, 5)
    for data in (puller.target / ".lazyfs" / "parts").glob("*.data"):
        size = data.stat().st_size
        data.write_bytes(bytes(size))

    outcome = puller()

    assert puller.right()
    assert 0 == outcome.found_bytes


def test_what_is_left_of_another_version_is_not_used(puller, monkeypatch, pattern_bytes):
    interrupted(puller, monkeypatch, 5)
    for number, path in enumerate(sorted(puller.source.glob("model-*"))):
        path.write_bytes(pattern_bytes(path.stat().st_size, 20 + number))
        os.utime(path, (7, 7))

    puller()

    assert puller.right()


@pytest.mark.logs("fetch_failed")
def test_a_file_that_changes_while_it_is_pulled_is_an_error(puller):
    listed = puller.published.list

    def changed_after():
        yield from listed()
        path = puller.source / "model-1.safetensors"
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, (9, 9))

    puller.published.list = changed_after

    with pytest.raises(BlobChanged):
        puller()

    assert "model-1.safetensors" not in puller.names()


def warmed(puller, cache_dir, monkeypatch):
    from lazyfs.pull import fill as module

    monkeypatch.setattr(module, "connect", lambda _address, _options: puller.published)
    options = WarmOptions(cache_dir=cache_dir, block_size=BLOCK)
    return fill(f"file://{puller.source}", options, lambda _seen: None)


def test_what_the_cache_has_is_not_fetched_and_the_cache_is_left_alone(puller, cache_dir, monkeypatch):
    filled = warmed(puller, cache_dir, monkeypatch)
    assert filled.network_bytes == filled.size_bytes == filled.stored_bytes

    def state():
        return {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*")}

    before = state()
    outcome = puller()

    assert puller.right()
    assert not puller.fetched
    assert outcome.cache_bytes == outcome.size_bytes
    assert before == state()


@pytest.mark.logs("block_corrupt")
def test_a_cache_that_is_wrong_is_found_out(puller, cache_dir, monkeypatch):
    puller.published.silent = {"model-1.safetensors"}
    warmed(puller, cache_dir, monkeypatch)
    for data in cache_dir.glob("v2/objects/*/*/data"):
        if data.stat().st_size == 3 * BLOCK:
            with data.open("r+b") as file:
                file.seek(BLOCK)
                file.write(b"wrong")
        elif data.stat().st_size > BLOCK:
            data.unlink()

    outcome = puller()

    assert puller.right()
    assert outcome.network_bytes == (5 * BLOCK + 77) + BLOCK


def test_what_was_verified_is_found_under_its_digest(puller, cache_dir, monkeypatch):
    warmed(puller, cache_dir, monkeypatch)
    (puller.source / "model-1.safetensors").rename(puller.source / "model-3.safetensors")

    outcome = puller()

    assert puller.right()
    assert not puller.fetched
    assert outcome.cache_bytes == outcome.size_bytes


@pytest.mark.logs("digest_mismatch", "cache_blob_gone")
def test_the_cache_is_not_filled_with_what_is_wrong(puller, cache_dir, monkeypatch):
    puller.published.wrong = {"model-1.safetensors"}

    with pytest.raises(
        DigestMismatch, match=r"model-1\.safetensors is not what its publisher says; warm again"
    ):
        warmed(puller, cache_dir, monkeypatch)

    assert not [
        data for data in cache_dir.glob("v2/objects/*/*/data") if data.stat().st_size == 5 * BLOCK + 77
    ]


def test_no_cache_is_made(puller, cache_dir):
    puller()

    assert not cache_dir.exists()


def test_a_full_disk_is_said_before_anything_is_fetched(puller, monkeypatch):
    monkeypatch.setattr(Destination, "free_bytes", lambda _self: 1_000_000)

    with pytest.raises(TargetUnusable, match=r"has 1\.0 MB free, and 2\.\d MB are to come; free some space"):
        puller()

    assert not puller.fetched


@pytest.fixture
def rangeless(tmp_path):
    """The address of a directory that `python -m http.server` serves, with 1 MB in it; it knows no ranges."""
    root = tmp_path / "served"
    root.mkdir()
    (root / "a.bin").write_bytes(bytes(600_000))
    (root / "b.bin").write_bytes(bytes(400_000))
    for file in root.iterdir():
        os.utime(file, (1_000_000, 1_000_000))
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


WHOLE = r"1\.0 MB are to come, and 1\.0 MB more meanwhile: the server knows no ranges"


def test_whole_files_of_a_server_without_ranges_need_room_too(rangeless, tmp_path, monkeypatch):
    monkeypatch.setattr(Destination, "free_bytes", lambda _self: 1_500_000)

    with pytest.raises(TargetUnusable, match=WHOLE):
        run.pull(rangeless, tmp_path / "there", PullOptions(cache_dir=tmp_path / "none"), lambda _seen: None)


def test_they_need_room_in_a_cache_too(rangeless, tmp_path, monkeypatch):
    monkeypatch.setattr(CacheDirectory, "free_bytes", lambda _self: 1_500_000)

    with pytest.raises(CacheUnusable, match=WHOLE):
        options = WarmOptions(cache_dir=tmp_path / "cache", cache_size=10_000_000)
        fill(rangeless, options, lambda _seen: None)


def test_a_directory_in_the_place_of_a_file_is_said_before_anything_is_fetched(puller):
    (puller.target / "model-1.safetensors").mkdir(parents=True)

    with pytest.raises(
        TargetUnusable, match=r"Is a directory \(.*/target/model-1.safetensors\); move away what is there"
    ):
        puller()

    assert not puller.fetched


def test_a_file_in_the_place_of_a_directory_is_said(puller):
    puller.target.mkdir()
    (puller.target / "deep").write_text("")

    with pytest.raises(TargetUnusable, match=r"Not a directory \(.*/target/deep\)"):
        puller()


def test_patterns_choose_and_what_they_leave_out_stays_unfinished(puller, monkeypatch):
    interrupted(puller, monkeypatch, 4)
    left = len(list((puller.target / ".lazyfs" / "parts").glob("*.data")))

    puller(include=("*.json",))

    assert "deep/er/tokenizer.json" in puller.names()
    assert left - 1 <= len(list((puller.target / ".lazyfs" / "parts").glob("*.data")))


def test_the_memory_of_a_block_that_is_on_disk_is_used_again(puller, monkeypatch):
    puller.published.silent = {"model-1.safetensors", "model-2.safetensors"}
    made, mapped = [], flight.mmap.mmap

    def counted(*arguments, **options):
        made.append(arguments[1])
        return mapped(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(flight.mmap, "mmap", counted)
        puller(connections=1)

    assert puller.right()
    assert made.count(BLOCK) <= 2 < sum(span.size_bytes == BLOCK for _, span in puller.fetched)
