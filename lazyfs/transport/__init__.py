"""Bytes: ranged reads from a location into a buffer. Knows nothing of names, blocks or caches."""
