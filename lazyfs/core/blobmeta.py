"""`meta.json` of a stored blob: what it is and where it came from, for people and tools; reads do without it.

`check` is xxh3-64 over the store key and the other fields, in hexadecimal. With the key in it, the file of
another blob is found out too; the other fields cannot tell, for one blob may have come from several places.
"""

import json
from typing import Any

from lazyfs.core.blob import BlobRef
from lazyfs.core.blocktable import Checksum


def encode(blob: BlobRef, checksum: Checksum, verified_at_s: float | None = None) -> bytes:
    """Return the file. `verified_at_s` is when all of the blob was found to have its digest (epoch)."""
    fields: dict[str, Any] = {
        "name": blob.name,
        "size": blob.size_bytes,
        "source": blob.origin,
        "version": blob.version,
        "digest": blob.digest,
        "verified_at": verified_at_s,
    }
    return _encoded(blob.store_key, fields, checksum)


def _encoded(store_key: str, fields: dict[str, Any], checksum: Checksum) -> bytes:
    text = json.dumps([store_key, fields], sort_keys=True, separators=(",", ":"))
    check = f"{checksum(text.encode(), 0):016x}"
    return json.dumps(fields | {"check": check}, indent=1).encode()


def is_sound(content: bytes, store_key: str, checksum: Checksum) -> bool:
    """Tell whether a file is undamaged to the byte, and that of the blob with this key."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return False
    if not isinstance(fields, dict):
        return False
    fields.pop("check", None)
    return _encoded(store_key, fields, checksum) == content
