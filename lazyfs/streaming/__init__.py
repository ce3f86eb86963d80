"""The trio shell: bytes for readers, blocks in flight, warm-up. Read docs/concurrency.md first."""
