"""A random Llama that engines start on: bf16, sharded, with a tokenizer; nothing is downloaded for it."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEAD_WIDTH = 64
_ONE = np.uint16(0x3F80)
_EXPONENT = np.uint16(0x3C80)
"""Matrices hold -0.031 to -0.016 and 0.016 to 0.031: as far from 0 as a Llama's before its training, so that
numbers stay finite through many layers, and quick to make."""
_SIGN_AND_FRACTION = np.uint16(0x807F)


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes of a Llama, and the seed of its weights. Tensors go to the shards layer by layer."""

    layers: int
    width: int
    inner_width: int
    key_heads: int
    vocabulary: int
    shards: int = 4
    seed: int = 7

    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return the names and shapes of all tensors in the order of the layers."""
        found: list[tuple[str, tuple[int, ...]]] = [
            ("model.embed_tokens.weight", (self.vocabulary, self.width))
        ]
        keys = self.key_heads * HEAD_WIDTH
        rows = {
            "self_attn.q_proj": (self.width, self.width),
            "self_attn.k_proj": (keys, self.width),
            "self_attn.v_proj": (keys, self.width),
            "self_attn.o_proj": (self.width, self.width),
            "mlp.gate_proj": (self.inner_width, self.width),
            "mlp.up_proj": (self.inner_width, self.width),
            "mlp.down_proj": (self.width, self.inner_width),
            "input_layernorm": (self.width,),
            "post_attention_layernorm": (self.width,),
        }
        for layer in range(self.layers):
            found += [(f"model.layers.{layer}.{name}.weight", shape) for name, shape in rows.items()]
        return [
            *found,
            ("model.norm.weight", (self.width,)),
            ("lm_head.weight", (self.vocabulary, self.width)),
        ]


LARGE = LlamaShape(layers=14, width=2048, inner_width=8192, key_heads=8, vocabulary=32_000)
"""1.97 GB: 20 s over a link of 100 MB/s."""
SMALL = LlamaShape(layers=8, width=1024, inner_width=4096, key_heads=4, vocabulary=8_000, seed=8)
"""0.28 GB, for what is tried one after another."""


def make_llama(directory: Path, shape: LlamaShape) -> int:
    """Write the model into `directory`; return its bytes. The same shape gives the same bytes."""
    directory.mkdir(parents=True)
    tensors = list(enumerate(shape.tensors()))
    per_shard = -(-len(tensors) // shape.shards)
    weight_map: dict[str, str] = {}
    for shard in range(shape.shards):
        name = f"model-{shard + 1:05d}-of-{shape.shards:05d}.safetensors"
        mine = tensors[shard * per_shard : (shard + 1) * per_shard]
        _write_shard(directory / name, mine, shape.seed)
        weight_map |= {tensor: name for _, (tensor, _) in mine}
    total = sum(_size_bytes(dimensions) for _, (_, dimensions) in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    for name, document in [("model.safetensors.index.json", index), *_documents(shape)]:
        (directory / name).write_text(json.dumps(document, indent=1))
    return sum(file.stat().st_size for file in directory.iterdir())


def _write_shard(path: Path, tensors: Sequence[tuple[int, tuple[str, tuple[int, ...]]]], seed: int) -> None:
    """Write one safetensors file tensor by tensor; numpy knows no bf16, so it is done by hand."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for _, (name, dimensions) in tensors:
        begin, end = end, end + _size_bytes(dimensions)
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, (_, dimensions) in tensors:
            file.write(_values(dimensions, seed, number))


def _size_bytes(dimensions: tuple[int, ...]) -> int:
    return 2 * math.prod(dimensions)


def _values(dimensions: tuple[int, ...], seed: int, number: int) -> bytes:
    """Return a tensor's bytes: random ones, or ones for a norm."""
    if len(dimensions) == 1:
        return np.full(dimensions, _ONE, np.uint16).tobytes()
    random = np.random.Generator(np.random.SFC64([seed, number]))
    bits = np.frombuffer(random.bytes(_size_bytes(dimensions)), np.uint16)
    return (bits & _SIGN_AND_FRACTION | _EXPONENT).tobytes()


def _documents(shape: LlamaShape) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the small files: what the engine is to build, and a tokenizer of one word for each number."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.width // HEAD_WIDTH,
        "num_key_value_heads": shape.key_heads,
        "head_dim": HEAD_WIDTH,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocabulary |= {f"w{number}": number for number in range(len(vocabulary), shape.vocabulary)}
    yield "config.json", config
    yield "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2}
    yield (
        "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": [
                {"id": number, "content": word, "special": True, "normalized": False}
                | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
                for number, word in enumerate(("<unk>", "<s>", "</s>"))
            ],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        }
        | dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
    )
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    yield "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special}
