"""`lazyfs ls`: what a mount of a source would show."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from lazyfs.config import ListOptions
from lazyfs.core.manifest import Manifest
from lazyfs.core.tree import Kind
from lazyfs.mount.snapshot import Sources
from lazyfs.telemetry.status import bytes_text, printable


def snapshot(texts: list[str], options: ListOptions) -> Manifest:
    """List sources, given as they are typed.

    Raises:
        LazyfsError: when it cannot be listed, or nothing of it could be mounted.

    """
    sources = Sources(texts, options, options.layout)
    try:
        return sources.take()
    finally:
        sources.close()


def as_json(manifest: Manifest) -> str:
    """Return the snapshot as one JSON object."""
    document: dict[str, Any] = {
        "source": manifest.source,
        "snapshot": manifest.snapshot_id,
        "bytes": manifest.size_bytes,
        "files": [asdict(blob) for blob in manifest.blobs],
        "refused": [asdict(refused) for refused in manifest.refused],
    }
    if manifest.extras:
        document["extras"] = [asdict(extra) for extra in manifest.extras]
    return json.dumps(document, indent=1)


def as_lines(manifest: Manifest) -> Iterator[str]:
    """Yield a line a file: size, time, name; then the sum."""
    for blob in manifest.blobs:
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(blob.modified_ns / 1e9))
        yield f"{bytes_text(blob.size_bytes):>9}  {when}  {printable(blob.name)}"
    for extra in manifest.extras:
        if extra.kind is Kind.FILE:
            yield f"{bytes_text(len(extra.content)):>9}  {'':16}  {printable(extra.name)}: {extra.content}"
    for refused in manifest.refused:
        yield f"  refused                    {refused.name!r}: {refused.reason}"
    yield f"{bytes_text(manifest.size_bytes):>9}  in {len(manifest.blobs)} files"
