"""A Hub-like server for the benchmark's model: `python -m benchmarks.hub DIRECTORY PORT URL`.

Names and hashes are those of DIRECTORY, and so are small files; large ones are redirected to below URL, which
is the shaped server: the bytes come over the same link as from S3.
"""

import signal
import sys
from pathlib import Path

from tests.hub import Conduct, Hub

NAME = "benchmark/model"
DELAY_S = 0.02
"""As the profile `s3` has it."""


def main(directory: str, port: str, url: str) -> None:
    """Hash the model, say that it is ready, and serve until ended."""
    with Hub(conduct=Conduct(delay_s=DELAY_S, elsewhere=url), port=int(port)) as hub:
        hub.repository(NAME).add(Path(directory))
        print("ready", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main(*sys.argv[1:])
