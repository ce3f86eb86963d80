"""A cold load: lazyfs beside s5cmd (download, then load), rclone and s3fs, for one of several readers.

Interleaved, so that a slow minute of the machine is everybody's; ratios are taken run by run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import Run, measure
from benchmarks.reader import READERS
from benchmarks.server import BUCKET, PROFILES, ShapedServer
from benchmarks.systems import SYSTEMS
from lazyfs.demo.model import ModelShape, make_model

RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="s3")
    parser.add_argument("--reader", choices=READERS, default="mmap")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=16, help="131 MB each; 16 make 2.1 GB")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument(
        "--work", type=Path, help="where models, caches and downloads go; default: a new directory"
    )
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    # The server's files are in memory: what is measured is not its disk.
    with (
        tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as temporary,
        tempfile.TemporaryDirectory(prefix="lazyfs-www-", dir="/dev/shm") as www,
    ):
        work = options.work or Path(temporary)
        model = Path(www) / BUCKET / "model"
        size = make_model(model, ModelShape(options.layers, options.shards))
        runs: list[Run] = []
        amplification: dict[str, float] = {}
        for turn in range(options.runs):
            for system in options.systems:
                with ShapedServer(
                    Path(www), PROFILES[options.profile], work / f"nginx-{turn}-{system}"
                ) as server:
                    settle_s = 6 if turn == 0 else 0
                    run = measure(system, server.endpoint_url, work / "run", options.reader, settle_s)
                    amplification[system] = server.sent_bytes() / size
                runs.append(run)
                sys.stderr.write(f"{run.system:8} {run.total_s:6.2f} s  checksum {run.checksum}\n")
    document = summary(runs, size, amplification) | {
        "profile": options.profile,
        "reader": options.reader,
        "machine": machine(),
    }
    print(table(document))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(document | {"runs": [asdict(run) for run in runs]}, indent=1)
        (RESULTS / f"{options.save}.json").write_text(text + "\n")
    if len({run.checksum for run in runs}) != 1:
        sys.exit("the systems did not read the same bytes")


def summary(runs: list[Run], size: int, amplification: dict[str, float]) -> dict[str, object]:
    """Return medians by system, and ratios of lazyfs to each, turn by turn."""
    systems = {}
    ours = [run for run in runs if run.system == "lazyfs"]
    for name in dict.fromkeys(run.system for run in runs):
        mine = [run for run in runs if run.system == name]
        systems[name] = {
            "total_s": _median([run.total_s for run in mine]),
            "ready_s": _median([run.ready_s for run in mine]),
            "first_tensor_s": _median([run.first_s for run in mine]),
            "download_s": _median([run.download_s or 0.0 for run in mine]),
            "cpu_s_per_gb": _median([run.cpu_s / size * 1e9 for run in mine]),
            "rss_peak_mb": max(run.rss_mb for run in mine),
            "rss_after_mb": mine[0].rss_after_mb,
            "bytes_ratio": amplification[name],
            "lazyfs_ratio": _median(
                [our.total_s / run.total_s for our, run in zip(ours, mine, strict=False)]
            ),
            "lazyfs_ratio_to_download": _median(
                [our.total_s / run.download_s for our, run in zip(ours, mine, strict=False) if run.download_s]
            ),
        }
    return {"size_bytes": size, "systems": systems}


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3) if values else 0.0


HEAD = (
    "| system | command to last tensor, s | directory, s | first tensor, s | download alone, s | lazyfs "
    "| CPU s per GB | peak RSS MB | RSS after MB | bytes over need |"
)


def table(document: dict[str, object]) -> str:
    """Return the medians as a table."""
    systems: dict[str, dict[str, float]] = document["systems"]  # type: ignore[assignment]
    lines = [HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    for name, row in systems.items():
        ratio = f"{row['lazyfs_ratio']:.2f} x"
        if row["lazyfs_ratio_to_download"]:
            ratio += f" ({row['lazyfs_ratio_to_download']:.2f} x the download)"
        lines.append(
            f"| {name} | {row['total_s']:.2f} | {row['ready_s']:.2f} | {row['first_tensor_s']:.2f} | "
            f"{row['download_s'] or '-'} | {ratio} | {row['cpu_s_per_gb']:.2f} | {row['rss_peak_mb']:.0f} | "
            f"{row['rss_after_mb']:.0f} | {row['bytes_ratio']:.3f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "commit": commit.stdout.strip(),
    }
