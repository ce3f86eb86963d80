"""`python -m tests.hub --model org/name=DIRECTORY ...`: prints its endpoint and serves until it is ended."""

import argparse
import signal
from pathlib import Path

from tests.hub import Conduct, Hub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIRECTORY")
    parser.add_argument("--dataset", action="append", default=[], metavar="NAME=DIRECTORY")
    parser.add_argument("--token", action="append", default=[], help="who may ask; the user is called reader")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--storage-port", type=int, default=0)
    parser.add_argument("--expires", type=float, default=3600.0, metavar="SECONDS")
    parser.add_argument("--style", choices=("s3", "cloudfront", "silent"), default="s3")
    parser.add_argument("--throttled-share", type=float, default=0.0)
    given = parser.parse_args()
    conduct = Conduct(expires_s=given.expires, style=given.style, throttled_share=given.throttled_share)
    tokens = dict.fromkeys(given.token, "reader")
    with Hub(tokens=tokens, conduct=conduct, port=given.port, storage_port=given.storage_port) as hub:
        for kind, places in (("models", given.model), ("datasets", given.dataset)):
            for place in places:
                name, _, directory = place.partition("=")
                sha = hub.repository(name, kind).add(Path(directory))
                print(f"{kind}/{name} {sha}", flush=True)
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
