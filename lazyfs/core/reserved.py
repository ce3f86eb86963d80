"""The names in a mount that are ours; alone here, for who asks a mount needs nothing else of `core`."""

RESERVED_NAME = ".lazyfs"
STATUS_NAME = "status.json"
"""What lies below the reserved name."""
