"""`lazyfs ls`: what a mount of a source would show."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict

from lazyfs.config import SourceOptions
from lazyfs.core.manifest import Manifest
from lazyfs.mount.snapshot import connect, take
from lazyfs.telemetry.status import bytes_text, printable


def snapshot(address: str, options: SourceOptions) -> Manifest:
    """List a source.

    Raises:
        LazyfsError: when it cannot be listed, or nothing of it could be mounted.

    """
    source = connect(address, options)
    try:
        return take(source, address, options)
    finally:
        source.close()


def as_json(manifest: Manifest) -> str:
    """Return the snapshot as one JSON object."""
    document = {
        "source": manifest.source,
        "snapshot": manifest.snapshot_id,
        "bytes": manifest.size_bytes,
        "files": [asdict(blob) for blob in manifest.blobs],
        "refused": [asdict(refused) for refused in manifest.refused],
    }
    return json.dumps(document, indent=1)


def as_lines(manifest: Manifest) -> Iterator[str]:
    """Yield a line a file: size, time, name; then the sum."""
    for blob in manifest.blobs:
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(blob.modified_ns / 1e9))
        yield f"{bytes_text(blob.size_bytes):>9}  {when}  {printable(blob.name)}"
    for refused in manifest.refused:
        yield f"  refused                    {refused.name!r}: {refused.reason}"
    yield f"{bytes_text(manifest.size_bytes):>9}  in {len(manifest.blobs)} files"
