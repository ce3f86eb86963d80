"""Models to read: the names, shapes and dtypes of real checkpoints, filled with random bits from a seed.

One layer has the shapes of a Llama of hidden size 2048, so tensors are between 4 KiB and 131 MB. The same
shape gives the same bytes on any machine, and no two tensors are alike: a wrong byte anywhere shows in the
checksum.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HIDDEN = 2048
VOCABULARY = 32_000
SCALE_BLOCK = 128
"""Rows and columns of FP8 weights that share one scale."""
_MATRICES = {
    "self_attn.q_proj": (2048, HIDDEN),
    "self_attn.k_proj": (512, HIDDEN),
    "self_attn.v_proj": (512, HIDDEN),
    "self_attn.o_proj": (HIDDEN, 2048),
    "mlp.gate_proj": (8192, HIDDEN),
    "mlp.up_proj": (8192, HIDDEN),
    "mlp.down_proj": (HIDDEN, 8192),
}
_NORMS = ("input_layernorm", "post_attention_layernorm")
_DTYPE_BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}

MODELS = {
    "sharded": "BF16 in shards, as most models are",
    "mixed": "FP8 weights, BF16 norms and embedding, F32 scales: by name they lie apart in the file",
    "single": "BF16 in one big file",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What to make: a kind of `MODELS`, so many layers (122 MB in BF16, 61 MB in FP8) and shards."""

    kind: str = "sharded"
    layers: int = 16
    shards: int = 4
    seed: int = 0
    thinness: int = 1
    """Divides the rows of every matrix: for tests."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """One tensor to write."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its elements."""
        size = _DTYPE_BYTES[self.dtype]
        for length in self.shape:
            size *= length
        return size


def make(directory: Path, shape: Shape) -> int:
    """Write the model's files into `directory`; return their bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for number, (name, matrices) in enumerate(shards(shape).items()):
        _write(directory / name, matrices, [shape.seed, number])
        weight_map |= {matrix.name: name for matrix in matrices}
    if shape.kind != "single":
        index = {"metadata": {}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "num_hidden_layers": shape.layers}
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    vocabulary = {f"token-{number}": number for number in range(VOCABULARY)}
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    return sum(file.stat().st_size for file in directory.iterdir())


def shards(shape: Shape) -> dict[str, list[Matrix]]:
    """Return the weight files by name, each with its tensors: consecutive layers lie in one file.

    Raises:
        ValueError: when there are more shards than tensors.

    """
    if shape.kind == "single":
        return {"model.safetensors": list(tensors(shape))}
    every, count = list(tensors(shape)), shape.shards
    if count > len(every):
        raise ValueError(f"{len(every)} tensors do not fill {count} shards; take more layers")
    cuts = [len(every) * number // count for number in range(count + 1)]
    return {
        f"model-{number + 1:05d}-of-{count:05d}.safetensors": every[cuts[number] : cuts[number + 1]]
        for number in range(count)
    }


def tensors(shape: Shape) -> Iterator[Matrix]:
    """Yield the tensors of a model, layer after layer."""
    yield Matrix("model.embed_tokens.weight", "BF16", (VOCABULARY // shape.thinness, HIDDEN))
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        for name, (full_rows, columns) in _MATRICES.items():
            rows = full_rows // shape.thinness
            if shape.kind == "mixed":
                blocks = (-(-rows // SCALE_BLOCK), columns // SCALE_BLOCK)
                yield Matrix(f"{prefix}.{name}.weight", "F8_E4M3", (rows, columns))
                yield Matrix(f"{prefix}.{name}.weight_scale_inv", "F32", blocks)
            else:
                yield Matrix(f"{prefix}.{name}.weight", "BF16", (rows, columns))
        for name in _NORMS:
            yield Matrix(f"{prefix}.{name}.weight", "BF16", (HIDDEN,))


def _write(path: Path, matrices: list[Matrix], seed: list[int]) -> None:
    """Write one file, tensor by tensor, in the order of safetensors: wide dtypes first, then by name."""
    ordered = sorted(matrices, key=lambda matrix: (-_DTYPE_BYTES[matrix.dtype], matrix.name))
    header, offset = {}, 0
    for matrix in ordered:
        span = [offset, offset + matrix.size_bytes]
        header[matrix.name] = {"dtype": matrix.dtype, "shape": matrix.shape, "data_offsets": span}
        offset = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.Generator(np.random.SFC64(seed))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for matrix in ordered:
            bits = random.integers(0, 2**64, size=matrix.size_bytes // 8, dtype=np.uint64)
            file.write(bits.data)
