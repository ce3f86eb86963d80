"""What could be reached at best, measured in the same run: by the link, and by the disk."""

import json
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.server import BUCKET

PART_BYTES = 16 << 20
CONNECTIONS = 64
LIMIT_S = 600


def link_s(endpoint: str, source: Path, directory: Path) -> float | None:
    """Return the seconds curl takes to fetch every file and throw it away; None without curl."""
    if shutil.which("curl") is None:
        return None
    config = directory / "curl.conf"
    config.write_text("\nnext\n".join(_parts(endpoint, source)))
    options = ["--parallel", "--parallel-immediate", "--parallel-max", str(CONNECTIONS), "--noproxy", "*"]
    started_s = time.monotonic()
    command = ["curl", *options, "--config", str(config)]
    subprocess.run(command, check=True, timeout=LIMIT_S, stderr=subprocess.DEVNULL)  # a meter, in any case
    return time.monotonic() - started_s


def _parts(endpoint: str, source: Path) -> list[str]:
    """Return one section of curl's configuration for each part of each file."""
    parts = []
    for file in sorted(source.iterdir()):
        size = file.stat().st_size
        for start in range(0, size, PART_BYTES):
            last = min(start + PART_BYTES, size) - 1
            url = f"{endpoint}/{BUCKET}/{source.name}/{file.name}"
            words = f'url = "{url}"\nrange = {start}-{last}\noutput = /dev/null\nsilent\nshow-error\nfail'
            parts.append(words)
    return parts


def disk_mb_per_s(directory: Path) -> float | None:
    """Return how fast fio reads the weights with O_DIRECT, four times 8 MiB at once; None without fio."""
    if shutil.which("fio") is None:
        return None
    names = ":".join(str(file).replace(":", r"\:") for file in sorted(directory.glob("*.safetensors")))
    command = [
        "fio", "--name=floor", f"--filename={names}", "--readonly", "--rw=read", "--bs=8M", "--iodepth=4",
        "--direct=1", "--ioengine=libaio", "--file_service_type=sequential", "--output-format=json",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, timeout=LIMIT_S, capture_output=True, text=True)
    read = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]
    return float(read["bw_bytes"]) / 1e6
