"""vLLM from the command to the first token: from local disk, after a download, on lazyfs, over the slow link.

Each start is the first on a new machine: nothing of the model, nor of vLLM's own gigabytes, is in memory, and
nothing is cached. In turns, so that a slow minute of the machine is everybody's; ratios are taken turn by
turn. `make test-vllm` installs vLLM, `scripts/install-system bench` the server; dropping what is in memory
needs root.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.measure import drop_caches
from benchmarks.server import BUCKET, PROFILES, ShapedServer
from benchmarks.systems import CREDENTIALS
from tests.vllm.hosting import Hosted, client_environment
from tests.vllm.model import LARGE, make_llama
from tests.vllm.starting import WAYS, Started
from tests.vllm.timeline import Timeline, picture, table

RESULTS = Path(__file__).parent / "results"
PROFILE = PROFILES["slow"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    turns: list[dict[str, Started]] = []
    with _hosted() as (hosted, work):
        for turn in range(options.runs):
            turns.append({})
            for name, way in WAYS.items():
                drop_caches()
                turns[-1][name] = started = way(hosted, work / f"{name}-{turn}")
                sys.stderr.write(f"{name:8} {started.timeline.first_token_s:6.1f} s\n")
    document = summary(turns, hosted.size_bytes)
    print("\n".join(report(document)))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{options.save}.json").write_text(json.dumps(document, indent=1) + "\n")
    if len({str((one.tokens, one.logprobs)) for turn in turns for one in turn.values()}) != 1:
        sys.exit("the engines did not say the same")


@contextmanager
def _hosted() -> Iterator[tuple[Hosted, Path]]:
    """Make the model on disk; serve it from memory: what is measured is not the server's disk."""
    with (
        tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as temporary,
        tempfile.TemporaryDirectory(prefix="lazyfs-www-", dir="/dev/shm") as www,
    ):
        work = Path(temporary)
        size = make_llama(work / "llama", LARGE)
        shutil.copytree(work / "llama", Path(www) / BUCKET / "llama")
        with ShapedServer(Path(www), PROFILE, work / "nginx") as server:
            environment = client_environment(server.endpoint_url, CREDENTIALS)
            yield Hosted(work / "llama", "llama", environment, size), work


def summary(turns: list[dict[str, Started]], size_bytes: int) -> dict[str, Any]:
    """Return medians, and ratios of lazyfs to the others, turn by turn."""
    assert PROFILE.total_mb is not None
    first_s = [{name: one.timeline.first_token_s for name, one in turn.items()} for turn in turns]
    link_s = size_bytes / PROFILE.total_mb / 1e6
    return {
        "size_bytes": size_bytes,
        "profile": PROFILE.name,
        "link_alone_s": round(link_s, 2),
        "link_ratio_to_disk": _median([link_s / turn["disk"] for turn in first_s]),
        "lazyfs_ratio_to_disk": _median([turn["lazyfs"] / turn["disk"] for turn in first_s]),
        "lazyfs_ratio_to_download": _median([turn["lazyfs"] / turn["download"] for turn in first_s]),
        "bytes_ratio": turns[-1]["lazyfs"].status["bytes_fetched"] / size_bytes,
        "medians": [_middle([turn[name].timeline for turn in turns]) for name in turns[0]],
        "machine": _machine(),
        "runs": [[asdict(one.timeline) for one in turn.values()] for turn in turns],
    }


def _middle(timelines: list[Timeline]) -> dict[str, Any]:
    events = [field.name for field in fields(Timeline)][1:]
    medians = {event: _median([getattr(one, event) for one in timelines]) for event in events}
    return {"name": timelines[0].name, **medians}


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    words = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False, cwd=RESULTS.parent)
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip(),
    }


def report(document: dict[str, Any]) -> list[str]:
    """Return what a document says, for people."""
    timelines = [Timeline(**median) for median in document["medians"]]
    link, disk, download = (
        f"{document[name]:.2f} x"
        for name in ("link_ratio_to_disk", "lazyfs_ratio_to_disk", "lazyfs_ratio_to_download")
    )
    ratios = [
        f"The link alone needs {document['link_alone_s']:.1f} s, {link} the start from local disk.",
        f"lazyfs needs {disk} the start from local disk, {download} the start after a download.",
    ]
    return [*picture(timelines), "", *table(timelines), "", *ratios]


if __name__ == "__main__":
    main()
