"""lazyfs: a model directory from object storage, mounted at once, streamed behind."""

__version__ = "0.1.0"

GARBAGE_THRESHOLD = 50_000
"""How many new containers make Python look for garbage while it starts (700 by default).

Importing makes objects that stay: looking for garbage among them took a tenth of the time to a directory.
`mount.lifecycle` goes back to the default.
"""
