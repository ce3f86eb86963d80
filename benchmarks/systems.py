"""The systems under test: how each is told to show or fetch the same objects, with the best settings known.

A system is a command in the foreground and the directory where the model will appear. Settings of peers:
rclone is best with 8 streams of 8 MiB on 2 cores and as here with 16 on more; s3fs wants its cache and many
requests.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import BUCKET


@dataclass(frozen=True, slots=True)
class Plan:
    """A command, its environment, where the model appears, and where it is downloaded to if not a mount."""

    command: list[str]
    directory: Path
    environment: dict[str, str]
    download: Path | None = None


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def lazyfs(endpoint: str, work: Path) -> Plan:
    mountpoint = _fresh(work / "mnt")
    command = [_script("lazyfs"), "mount", f"s3://{BUCKET}/model", str(mountpoint)]
    options = ["--endpoint-url", endpoint, "--cache-dir", str(work / "cache")]
    return Plan(command + options, mountpoint, CREDENTIALS)


def s5cmd(endpoint: str, work: Path) -> Plan:
    target = work / "download"
    command = [_script("s5cmd"), "--endpoint-url", endpoint, "cp", f"s3://{BUCKET}/model/*", f"{target}/"]
    return Plan(command, work / "model", CREDENTIALS, download=target)


def rclone(endpoint: str, work: Path) -> Plan:
    mountpoint = _fresh(work / "mnt")
    remote = f":s3,provider=Other,env_auth=true,endpoint='{endpoint}',region=us-east-1:{BUCKET}/model"
    command = [
        _script("rclone"), "mount", remote, str(mountpoint), "--read-only", "--config", "/dev/null",
        "--cache-dir", str(work / "cache"), "--vfs-cache-mode", "full", "--vfs-read-chunk-streams", "16",
        "--vfs-read-chunk-size", "8M", "--vfs-read-ahead", "256M",
    ]  # fmt: skip
    return Plan(command, mountpoint, CREDENTIALS)


def s3fs(endpoint: str, work: Path) -> Plan:
    mountpoint = _fresh(work / "mnt")
    options = [
        f"url={endpoint}", "use_path_request_style", f"use_cache={work / 'cache'}", "parallel_count=16",
        "multireq_max=20", "ro", "endpoint=us-east-1", "del_cache",
    ]  # fmt: skip
    command = ["s3fs", f"{BUCKET}:/model", str(mountpoint), "-f", "-o", ",".join(options)]
    names = {"AWSACCESSKEYID": "benchmark", "AWSSECRETACCESSKEY": "benchmark"}
    return Plan(command, mountpoint, names)


SYSTEMS: dict[str, Callable[[str, Path], Plan]] = {
    "lazyfs": lazyfs,
    "s5cmd": s5cmd,
    "rclone": rclone,
    "s3fs": s3fs,
}


def _fresh(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _script(name: str) -> str:
    """Return a command of this environment, or the system's."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or name


def environment(plan: Plan) -> dict[str, str]:
    """Return this process's environment with the plan's variables, and no proxies."""
    inherited = {
        k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("LAZYFS_")
    }
    return inherited | plan.environment
