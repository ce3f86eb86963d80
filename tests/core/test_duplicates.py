import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef
from lazyfs.core.duplicates import SMALL_BYTES, duplicates

MB = 1_000_000


def duplicates_of(megabytes):
    """The names that are duplicates, of files of so many megabytes."""
    blobs = {
        key: BlobRef(name, "o", "v", round(size * MB)) for key, (name, size) in enumerate(megabytes.items())
    }
    return {blobs[key].name for key in duplicates(blobs)}


LLAMA = {
    "model-00001-of-00002.safetensors": 5000,
    "model-00002-of-00002.safetensors": 3000,
    "config.json": 0.01,
}


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "consolidated.00.pth", "model.pt", "model.ckpt", "model-q4.gguf", "model.onnx",
        "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "original/consolidated.00.pth",
        "original/consolidated.safetensors", "original/deep/er/params.bin", "onnx/model_fp16.onnx",
        "onnx/model.onnx_data", "metal/model.bin", "gguf/model-q8.gguf",
    ],
)  # fmt: skip
def test_files_beside_safetensors_are_duplicates_by_the_rule(name):
    assert {name} == duplicates_of(LLAMA | {name: 8000})


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json", "other/pytorch_model.bin", "vae/original.bin", "model.safetensors.index.json",
        "consolidated.safetensors", "bin", "originals/model.safetensors", "readme.bin.md",
    ],
)  # fmt: skip
def test_what_the_rule_does_not_name_is_none(name):
    assert not duplicates_of(LLAMA | {name: 8000})


@pytest.mark.parametrize("name", ["tokenizer.bin", "training_args.bin", "original/params.json"])
def test_small_files_are_none(name):
    assert not duplicates_of(LLAMA | {name: SMALL_BYTES / MB})
    assert {"tokenizer.bin"} == duplicates_of(LLAMA | {"tokenizer.bin": (SMALL_BYTES + 1) / MB})


def test_without_safetensors_nothing_is():
    assert not duplicates_of({"pytorch_model.bin": 8000, "model.gguf": 4000, "original/a.pth": 100})


def test_an_adapter_beside_its_base_model_does_not_replace_it():
    base = {"pytorch_model-00001-of-00002.bin": 5000, "pytorch_model-00002-of-00002.bin": 5000}

    assert not duplicates_of(base | {"adapter_model.safetensors": 100})
    assert set(base) == duplicates_of(base | {"model.safetensors": 1250})


def test_each_directory_is_judged_by_itself():
    """As diffusers lay out their models."""
    files = {
        "unet/diffusion_pytorch_model.safetensors": 3000,
        "unet/diffusion_pytorch_model.bin": 3000,
        "vae/diffusion_pytorch_model.bin": 300,
        "model.bin": 5000,
    }

    assert {"unet/diffusion_pytorch_model.bin"} == duplicates_of(files)


def test_each_format_is_judged_by_itself():
    files = {"model.safetensors": 1000, "model.bin": 2000, "a.gguf": 5000, "b.gguf": 5000}

    assert {"model.bin"} == duplicates_of(files)


names = st.lists(
    st.sampled_from(["a", "b", "original", "onnx", "x.safetensors", "x.bin", "y.bin", "z.gguf", "c.json"]),
    min_size=1,
    max_size=4,
).map("/".join)


@given(st.dictionaries(names, st.integers(0, 100), max_size=12))
def test_wherever_there_are_duplicates_there_are_weights_that_are_none(files):
    spared = duplicates_of(files)

    kept = sum(size for name, size in files.items() if name not in spared and name.endswith(".safetensors"))
    assert not spared or kept > 0
    assert all(files[name] * MB > SMALL_BYTES for name in spared)
