"""lazyfs: a model directory from object storage, mounted at once, streamed behind."""

__version__ = "0.1.0"
