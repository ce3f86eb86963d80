"""Weights that a repository holds in several formats: which files nobody needs who loads the safetensors.

Many repositories hold the same weights as safetensors and as `.bin`, `.gguf`, `.onnx` and others. Engines
load the safetensors, so the others are shown, and can be read, but are not fetched before somebody does.

**The rule.** A file is a duplicate when it is larger than 1 MiB, and

* its name ends like another format of weights (`OTHER_WEIGHTS`), and there are weights as safetensors in the
  same directory; or
* it lies below a directory called after another format (`OTHER_DIRECTORIES`), whatever it is, and there are
  weights as safetensors beside that directory.

The safetensors in a directory, but not deeper, count as its weights when all of them together are at least
an eighth of the files of that format there, or of that directory. Less than that is not the same in another
form: an adapter beside its base model is a hundredth of it, 4-bit weights beside 32-bit ones are an eighth.
"""

from collections.abc import Iterator, Mapping

from lazyfs.core.blob import BlobRef

WEIGHTS = ".safetensors"
OTHER_WEIGHTS = (
    ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".onnx", ".onnx_data", ".onnx.data", ".h5", ".msgpack",
    ".ot", ".tflite", ".mlmodel", ".npz",
)  # fmt: skip
OTHER_DIRECTORIES = frozenset({"original", "onnx", "gguf", "flax", "tf", "openvino", "coreml", "metal"})
SMALL_BYTES = 1 << 20
SHARE = 8


def duplicates(blobs: Mapping[int, BlobRef]) -> frozenset[int]:
    """Return the keys of the blobs that are duplicates, by the rule of this module's docstring."""
    weights: dict[str, int] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    for key, blob in blobs.items():
        group = _group(blob.name)
        if group is not None:
            groups.setdefault(group, []).append(key)
        elif blob.name.endswith(WEIGHTS):
            directory = blob.name.rpartition("/")[0]
            weights[directory] = weights.get(directory, 0) + blob.size_bytes
    return frozenset(
        key
        for (directory, _), keys in groups.items()
        if sum(blobs[key].size_bytes for key in keys) <= SHARE * weights.get(directory, 0)
        for key in keys
        if blobs[key].size_bytes > SMALL_BYTES
    )


def _group(name: str) -> tuple[str, str] | None:
    """Return what a file is one of: the directory whose weights it may repeat, and the format."""
    *directories, _ = name.split("/")
    for depth, directory in enumerate(directories):
        if directory in OTHER_DIRECTORIES:
            return "/".join(directories[:depth]), f"{directory}/"
    found = next(_endings(name), None)
    return None if found is None else ("/".join(directories), found)


def _endings(name: str) -> Iterator[str]:
    return (ending for ending in OTHER_WEIGHTS if name.endswith(ending))
