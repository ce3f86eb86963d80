"""`lazyfs`, or `python -m lazyfs`."""

import gc
import sys
from pathlib import Path

from lazyfs import GARBAGE_THRESHOLD


def main() -> None:
    """Run the command line; a probe, which comes every second, does not wait for it to be imported."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    arguments = sys.argv[1:]
    if arguments[:1] == ["ready"] and _at_most_a_path(arguments[1:]):
        from lazyfs.commands.ready import show  # noqa: PLC0415 - only now

        sys.exit(show(Path(arguments[1]) if arguments[1:] else None))
    from lazyfs.supervisor.spare import early  # noqa: PLC0415 - only now

    early(arguments)
    from lazyfs.cli import main as run  # noqa: PLC0415 - only now

    run()


def _at_most_a_path(arguments: list[str]) -> bool:
    return not arguments or (len(arguments) == 1 and not arguments[0].startswith("-"))


if __name__ == "__main__":
    main()
