"""A model directory like a real one, made from a seed: sharded safetensors, index, config, tokenizer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HIDDEN = 4096
_ROWS = {
    "self_attn.q_proj": 4096,
    "self_attn.k_proj": 1024,
    "self_attn.v_proj": 1024,
    "self_attn.o_proj": 4096,
    "mlp.gate_proj": 3072,
    "mlp.up_proj": 3072,
}
LAYER_BYTES = sum(_ROWS.values()) * HIDDEN * 2
"""131 MB: one layer of matrices in F16."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """How large a model to make, and from which seed."""

    layers: int
    shards: int
    seed: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return self.layers * LAYER_BYTES


def make_model(directory: Path, shape: ModelShape) -> int:
    """Write the model's files into `directory`; return their bytes. The same shape gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for shard in range(shape.shards):
        name = f"model-{shard + 1:05d}-of-{shape.shards:05d}.safetensors"
        tensors = dict(_tensors(shape, range(shard, shape.layers, shape.shards)))
        save_file(tensors, directory / name)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": shape.size_bytes}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "num_hidden_layers": shape.layers}
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    vocabulary = {f"token-{number}": number for number in range(32_000)}
    (directory / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    return sum(file.stat().st_size for file in directory.iterdir())


def _tensors(
    shape: ModelShape, layers: range
) -> Iterator[tuple[str, "np.ndarray[tuple[int, int], np.dtype[np.float16]]"]]:
    """Yield the matrices of some layers. Random bits: a wrong byte anywhere shows."""
    for layer in layers:
        random = np.random.Generator(np.random.SFC64([shape.seed, layer]))
        for name, rows in _ROWS.items():
            bits = random.integers(0, 2**64, size=(rows, HIDDEN // 4), dtype=np.uint64)
            yield f"model.layers.{layer}.{name}.weight", bits.view(np.float16)
