"""`lazyfs inspect`: tensors, dtypes and shapes, from the headers only."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lazyfs.config import SourceOptions
from lazyfs.core.blob import BlobRef, ByteRange
from lazyfs.core.duplicates import WEIGHTS
from lazyfs.core.manifest import Manifest
from lazyfs.core.plan import natural_key
from lazyfs.core.safetensors import LENGTH_BYTES, Layout, header_length, parse, parse_index
from lazyfs.errors import BadHeader, SourceMissing
from lazyfs.mount.snapshot import connect, take
from lazyfs.sources import Source
from lazyfs.telemetry.status import bytes_text, printable
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted

FIRST_READ_BYTES = 128 << 10
"""Most headers fit, so most files take one request."""
THREADS = 8
INDEX_NAME = "model.safetensors.index.json"
INDEX_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True)
class Inspection:
    """The layouts of a model's weight files, by name in natural order, and what is wrong with them."""

    layouts: dict[str, Layout]
    faults: tuple[str, ...]


def inspect_source(address: str, options: SourceOptions) -> Inspection:
    """Open a source and inspect what it holds; see `inspect`."""
    source = connect(address, options)
    try:
        return inspect(source, take(source, address, options))
    finally:
        source.close()


def inspect(source: Source, manifest: Manifest) -> Inspection:
    """Read the header of every weight file, and the index if there is one.

    Raises:
        SourceMissing: when there are no safetensors at all.
        LazyfsError: when the source fails.

    """
    weights = sorted(
        (b for b in manifest.blobs if b.name.endswith(WEIGHTS)), key=lambda b: natural_key(b.name)
    )
    if not weights:
        raise SourceMissing(f"there are no safetensors at {manifest.source}", "lazyfs ls shows what there is")
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda blob: _layout(source, blob), weights))
    layouts = {
        blob.name: layout for blob, layout in zip(weights, found, strict=True) if isinstance(layout, Layout)
    }
    faults = [f"{b.name}: {f}" for b, f in zip(weights, found, strict=True) if isinstance(f, BadHeader)]
    index = next((blob for blob in manifest.blobs if blob.name == INDEX_NAME), None)
    if index is not None:
        faults += _index_faults(source, index, layouts)
    return Inspection(layouts, tuple(faults))


def _layout(source: Source, blob: BlobRef) -> Layout | BadHeader:
    try:
        start = _read(source, blob, min(FIRST_READ_BYTES, blob.size_bytes))
        stop = LENGTH_BYTES + header_length(start, blob.size_bytes)
        content = start if stop <= len(start) else _read(source, blob, stop)
        return parse(content[LENGTH_BYTES:stop], blob.size_bytes)
    except BadHeader as error:
        return error


def _read(source: Source, blob: BlobRef, stop: int) -> bytes:
    """Return the first `stop` bytes of a blob."""
    if not stop:
        return b""
    content = bytearray(stop)
    lane = Lane()
    try:
        wanted = Wanted(ByteRange(0, stop), blob.size_bytes)
        lane.fetch(source.locate(blob), wanted, memoryview(content), lambda _count: None)
    finally:
        lane.close()
    return bytes(content)


def _index_faults(source: Source, index: BlobRef, layouts: dict[str, Layout]) -> Iterator[str]:
    """Yield what the index promises and the files do not hold."""
    if index.size_bytes > INDEX_BYTES_MAX:
        yield f"{index.name}: {index.size_bytes} bytes are too many for an index"
        return
    try:
        weight_map = parse_index(_read(source, index, index.size_bytes))
    except BadHeader as error:
        yield f"{index.name}: {error}"
        return
    for shard in sorted(set(weight_map.values()) - layouts.keys()):
        yield f"{index.name} names {shard}, which is not there or not readable"
    held = {name: {tensor.name for tensor in layout.tensors} for name, layout in layouts.items()}
    lost = sum(tensor not in held[shard] for tensor, shard in weight_map.items() if shard in held)
    if lost:
        yield f"{index.name} names {lost} tensors that are not in their shards"


def as_json(inspection: Inspection) -> str:
    """Return everything as one JSON object."""
    files = {
        name: [
            {"name": t.name, "dtype": t.dtype, "shape": t.shape, "start": t.span.start, "stop": t.span.stop}
            for t in layout.tensors
        ]
        for name, layout in inspection.layouts.items()
    }
    return json.dumps({"files": files, "faults": inspection.faults}, indent=1)


def as_lines(inspection: Inspection, *, tensors: bool) -> Iterator[str]:
    """Yield a line a file, each tensor below it if wanted, then sums by dtype, then faults."""
    parameters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, layout in inspection.layouts.items():
        size = sum(tensor.span.size_bytes for tensor in layout.tensors)
        dtypes = ", ".join(sorted({tensor.dtype for tensor in layout.tensors}))
        yield f"{bytes_text(size):>9}  {len(layout.tensors):>5} tensors  {dtypes:<12}  {printable(name)}"
        for tensor in layout.tensors:
            parameters[tensor.dtype] += math.prod(tensor.shape)
            sizes[tensor.dtype] += tensor.span.size_bytes
            if tensors:
                shape = " x ".join(map(str, tensor.shape)) or "scalar"
                size_text = bytes_text(tensor.span.size_bytes)
                yield f"{size_text:>9}  {tensor.dtype:>13}  {shape:<20}  {printable(tensor.name)}"
    for dtype, count in parameters.most_common():
        yield f"{bytes_text(sizes[dtype]):>9}  {count / 1e9:.3f} billion parameters in {dtype}"
    for fault in inspection.faults:
        yield f"FAULT: {printable(fault)}"
