"""How a large object is cut for a multipart upload.

S3's limits (docs.aws.amazon.com, "Amazon S3 multipart upload limits"): at most 10,000 parts of at most 5 GiB,
the last of any size, the others at least 5 MiB. The same size gives the same parts, every time: that is how
an upload that was broken off can be gone on with.
"""

from lazyfs.core.blob import Grid
from lazyfs.errors import UsageError

PART_BYTES = 16 << 20
"""What is sent in one go while that makes few enough parts; files up to this size are sent whole."""
PART_STEP = 8 << 20
"""Parts are multiples of the blocks that mounts read: S3 reads ranges fastest that lie in one part."""
PARTS_MAX = 10_000
PART_BYTES_MAX = 5 << 30


def parts(size_bytes: int) -> Grid:
    """Return how an object of `size_bytes` is cut.

    Raises:
        UsageError: when no server would take it, at some 50 TB.

    """
    least = -(-size_bytes // PARTS_MAX)
    part_bytes = max(PART_BYTES, -(-least // PART_STEP) * PART_STEP)
    if part_bytes > PART_BYTES_MAX:
        raise UsageError(f"{size_bytes} bytes are more than S3 takes in one object", "cut the file")
    return Grid(part_bytes)
