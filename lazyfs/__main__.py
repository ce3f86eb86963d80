"""`lazyfs`, or `python -m lazyfs`."""

import gc

GARBAGE_THRESHOLD = 50_000
"""How many new containers make Python look for garbage while it starts (700 by default).

Importing makes objects that stay: looking for garbage among them took a tenth of the time to a directory.
`mount.lifecycle` goes back to the default.
"""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    from lazyfs.cli import main as run  # noqa: PLC0415 - only now

    run()


if __name__ == "__main__":
    main()
