"""The safetensors header and index: where each tensor lies.

Format (github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header length N, N bytes of JSON
that begin with `{` and may be padded with spaces, then the tensors' bytes. Each tensor gives `dtype`, `shape`
and `data_offsets` relative to the end of the header; the tensors cover the data without holes or overlaps.

Any bytes give a layout or `BadHeader`, never another exception.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from lazyfs.core.blob import ByteRange
from lazyfs.errors import BadHeader

LENGTH_BYTES = 8
HEADER_BYTES_MAX = 100_000_000
"""The reference implementation's own limit (safetensors 0.8, `MAX_HEADER_SIZE`)."""
OFFSET_MAX = 2**63
"""No offset a file system can address is larger."""

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `span` is its bytes, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    span: ByteRange


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's tensors in the order they lie in it, and its free-form metadata."""

    data_start: int
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]


def header_length(prefix: bytes, size_bytes: int) -> int:
    """Return the JSON's length from the first 8 bytes of a file of `size_bytes`.

    Raises:
        BadHeader: when such a file cannot have such a header.

    """
    if len(prefix) < LENGTH_BYTES:
        raise BadHeader(f"a file of {len(prefix)} bytes has no safetensors header")
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length > HEADER_BYTES_MAX:
        raise BadHeader(f"header of {length} bytes; the limit is {HEADER_BYTES_MAX}")
    if LENGTH_BYTES + length > size_bytes:
        raise BadHeader(f"header of {length} bytes in a file of {size_bytes}")
    return length


def parse(header: bytes, size_bytes: int) -> Layout:
    """Read the JSON `header` (without its 8-byte length) of a file of `size_bytes`.

    Raises:
        BadHeader: for anything that breaks the format, including holes, overlaps and wrong sizes.

    """
    data_start = LENGTH_BYTES + len(header)
    if not header.startswith(b"{"):
        raise BadHeader("the header does not begin with '{'")
    document = _object(header)
    metadata = _metadata(document.pop("__metadata__", {}))
    tensors = [_tensor(name, entry, data_start) for name, entry in document.items()]
    tensors.sort(key=lambda tensor: (tensor.span.start, tensor.span.stop, tensor.name))
    position = data_start
    for tensor in tensors:
        if tensor.span.start != position:
            fault = "a hole" if tensor.span.start > position else "an overlap"
            raise BadHeader(f"{fault} before tensor {tensor.name!r}")
        position = tensor.span.stop
    if position != size_bytes:
        raise BadHeader(f"tensors end at byte {position} of a file of {size_bytes}")
    return Layout(data_start, tuple(tensors), metadata)


def parse_index(text: bytes) -> dict[str, str]:
    """Return which shard holds which tensor, from a `model.safetensors.index.json`.

    Raises:
        BadHeader: when it is anything else.

    """
    weight_map = _object(text).get("weight_map")
    if not isinstance(weight_map, dict):
        raise BadHeader("the index has no weight_map")
    for shard in weight_map.values():
        if not isinstance(shard, str):
            raise BadHeader("the weight_map maps a tensor to something that is not a name")
    return weight_map


def _object(text: bytes) -> dict[str, Any]:
    """Parse JSON that must be an object without duplicate keys."""
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadHeader(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadHeader("not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise BadHeader("a key occurs twice")
    return document


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadHeader("__metadata__ is not a map of strings")
    return value


def _tensor(name: str, entry: Any, data_start: int) -> Tensor:
    if not isinstance(entry, dict):
        raise BadHeader(f"tensor {name!r} is not an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise BadHeader(f"tensor {name!r} has an unknown dtype")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:  # noqa: PLR2004
        raise BadHeader(f"tensor {name!r} has no proper shape or data_offsets")
    start, stop = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or start + bits // 8 != stop:
        raise BadHeader(f"tensor {name!r} has a size that does not fit its shape")
    return Tensor(name, dtype, tuple(shape), ByteRange(data_start + start, data_start + stop))


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < OFFSET_MAX for n in value)
