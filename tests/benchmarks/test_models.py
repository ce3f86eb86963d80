from pathlib import Path

import pytest
from safetensors import safe_open

from benchmarks.models import MODELS, Shape, make, shards, tensors
from benchmarks.readers import layout
from benchmarks.readers import shards as weight_files


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_shape_gives_the_same_bytes_and_another_seed_gives_others(tmp_path, kind):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        make(tmp_path / name, Shape(kind, layers=1, shards=2, seed=seed, thinness=16))
    one, two, other = (content(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert all(one[name] != other[name] for name in one if name.endswith(".safetensors"))


@pytest.mark.parametrize("kind", MODELS)
def test_safetensors_reads_every_tensor_that_was_to_be_written(tmp_path, kind):
    shape = Shape(kind, layers=1, shards=3, thinness=16)
    size_bytes = make(tmp_path, shape)
    found = {}
    for file in weight_files(tmp_path):
        with safe_open(file, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dictionary
                part = opened.get_slice(name)
                found[name] = (part.get_dtype(), tuple(part.get_shape()))
    assert {one.name: (one.dtype, one.shape) for one in tensors(shape)} == found
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == size_bytes


@pytest.mark.parametrize("count", [1, 2, 7, 19])
def test_shards_together_hold_every_tensor_once(count):
    shape = Shape("sharded", layers=2, shards=count, thinness=16)
    files = shards(shape)
    assert count == len(files)
    assert list(tensors(shape)) == [matrix for matrices in files.values() for matrix in matrices]
    assert all(files.values())


def test_more_shards_than_tensors_are_refused():
    with pytest.raises(ValueError, match="take more layers"):
        shards(Shape("sharded", layers=1, shards=20, thinness=16))


def test_a_mixed_model_lies_in_another_order_than_it_is_read(tmp_path):
    make(tmp_path, Shape("mixed", layers=1, shards=1, thinness=16))
    (file,) = weight_files(tmp_path)
    by_name = layout(file)
    assert {"F32", "BF16", "F8_E4M3"} == {tensor.dtype for tensor in by_name}
    assert by_name != sorted(by_name, key=lambda tensor: tensor.span.start)
