import io
import itertools
import os
import sys

import pytest

from benchmarks.loading import gathered
from benchmarks.models import Shape, make
from benchmarks.readers import PIECE_BYTES_MAX, READERS, load, shards, whole


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    make(directory, Shape("mixed", layers=1, shards=2, thinness=16))
    return directory


def pieces(directory, name):
    reader = READERS[name]
    for rank in range(reader.ranks):
        yield from whole(reader.pieces(directory, rank, reader.ranks))


@pytest.mark.parametrize("name", ["mmap", "tp4", "transformers", "pread", "direct"])
def test_pieces_cover_every_tensor_once(model, name):
    for shard in shards(model):
        spans = sorted((start, stop) for path, start, stop in pieces(model, name) if path == shard)
        assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(spans))
        assert shard.stat().st_size == spans[-1][1]
        header_bytes = 8 + int.from_bytes(shard.read_bytes()[:8], "little")
        assert spans[0][0] in (0, header_bytes)


@pytest.mark.parametrize("name", READERS)
def test_no_piece_is_larger_than_the_memory_for_it(model, name):
    assert all(0 < stop - start <= PIECE_BYTES_MAX for _, start, stop in pieces(model, name))


def test_a_piece_too_large_is_cut_without_a_hole(tmp_path):
    end = 2 * PIECE_BYTES_MAX + 5
    cut = list(whole(iter([(tmp_path, 3, end)])))
    assert [3, 3 + PIECE_BYTES_MAX, 3 + 2 * PIECE_BYTES_MAX] == [start for _, start, _ in cut]
    assert end == cut[-1][2]


def test_headers_are_all_that_the_header_reader_reads(model):
    expected = [(shard, 0, 8 + int.from_bytes(shard.read_bytes()[:8], "little")) for shard in shards(model)]
    assert expected == list(pieces(model, "headers"))


def test_scattered_pieces_are_the_same_every_time_and_lie_in_the_files(model):
    first = list(pieces(model, "random"))
    assert first == list(pieces(model, "random"))
    assert all(0 <= start < stop <= path.stat().st_size for path, start, stop in first)


def read(directory, name, monkeypatch):
    said = []
    for rank in range(READERS[name].ranks):
        monkeypatch.setattr(sys, "stdin", io.StringIO("go\n"))
        said.append(load(directory, READERS[name], rank))
    return gathered(said)


def test_mapped_and_threaded_readers_of_the_same_pieces_give_the_same_sum(model, monkeypatch):
    one, other = (read(model, name, monkeypatch) for name in ("mmap", "transformers"))
    assert one["checksum"] == other["checksum"]
    assert one["bytes"] == other["bytes"]


@pytest.mark.parametrize("name", ["tp4", "pread", "random"])
def test_a_changed_byte_changes_the_sum(tmp_path, name, monkeypatch):
    make(tmp_path, Shape("sharded", layers=1, shards=1, thinness=16))
    (shard,) = shards(tmp_path)
    before = read(tmp_path, name, monkeypatch)["checksum"]
    _, start, _ = list(pieces(tmp_path, name))[-1]
    with shard.open("r+b") as file:
        file.seek(start)
        byte = file.read(1)[0]
        file.seek(start)
        file.write(bytes([byte ^ 1]))
        os.fsync(file.fileno())
    assert before != read(tmp_path, name, monkeypatch)["checksum"]
