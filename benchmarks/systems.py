"""The systems under test: how each is told to show or fetch the same objects, with the best settings known.

Settings of peers: s5cmd wants 16 parts of 8 MiB of each file at once (its own defaults take 1.4 times as long
on `s3` and 3 times on `wan`); rclone is best as mount2 with 8 streams of 8 MiB and much read-ahead (16
streams are slower on two cores), and writes down what its cache holds five seconds after a file was closed;
s3fs wants its cache and many requests; SeaweedFS shows a bucket as remote storage, and is told to bring
everything into its volumes; the Run:ai streamer is best with its own default of 8 requests on two cores (16
take 1.7 times as long).
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from benchmarks.hub import NAME
from benchmarks.server import BUCKET
from lazyfs.demo.seaweed import free_ports


class Kind(StrEnum):
    """How a system gives the model to a reader."""

    MOUNT = "mount"
    """A directory that is served while it is read."""
    DOWNLOAD = "download"
    """A command that fetches everything into a directory, and ends."""
    LOADER = "loader"
    """A library in the process that reads: no directory, and nothing is kept."""
    DISK = "disk"
    """The model lies on the local disk already."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run takes place: the server, an empty directory, and a copy of the model on the same disk."""

    endpoint: str
    work: Path
    disk: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """A command in the foreground, its variables, where the model appears, and where it is downloaded to."""

    command: list[str]
    directory: Path
    environment: dict[str, str]
    download: Path | None = None
    service: list[str] | None = None
    """What must run already; it says `ready`. Its start is not timed, but its CPU and memory count."""


@dataclass(frozen=True, slots=True)
class System:
    """One system: its plan, what has to be installed for it, and which readers it can serve (None: all)."""

    kind: Kind
    plan: Callable[[Site], Plan]
    about: str
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cure: str = "pip install 'lazyfs[bench]'"
    readers: tuple[str, ...] | None = None
    before_warm_s: float = 0.0
    """How long to leave it alone before its cache is complete on disk."""

    def missing(self) -> list[str]:
        """Return what is not installed."""
        return [name for name in self.programs if not found(name)] + [
            name for name in self.modules if find_spec(name) is None
        ]


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def lazyfs(site: Site) -> Plan:
    mountpoint = _fresh(site.work / "mnt")
    command = [script("lazyfs"), "mount", f"s3://{BUCKET}/model", str(mountpoint)]
    options = ["--endpoint-url", site.endpoint, "--cache-dir", str(site.work / "cache")]
    return Plan(command + options, mountpoint, CREDENTIALS)


def lazyfs_pull(site: Site) -> Plan:
    target = site.work / "download"
    command = [script("lazyfs"), "pull", f"s3://{BUCKET}/model", str(target)]
    options = ["--endpoint-url", site.endpoint, "--cache-dir", str(site.work / "cache")]
    return Plan(command + options, site.work / "model", CREDENTIALS, download=target)


def lazyfs_hub(site: Site) -> Plan:
    mountpoint = _fresh(site.work / "mnt")
    port_file = site.work / "port"
    if not port_file.exists():
        port_file.write_text(str(free_ports(1)[0]))
    port = port_file.read_text()
    base = [sys.executable, "-m", "benchmarks.hub"]
    command = [script("lazyfs"), "mount", f"hf://{NAME}", str(mountpoint)]
    options = ["--cache-dir", str(site.work / "cache")]
    own = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    service = [*base, str(site.disk), port, f"{site.endpoint}/{BUCKET}/model"]
    return Plan(command + options, mountpoint, own, service=service)


def s5cmd(site: Site) -> Plan:
    target = site.work / "download"
    options = ["--endpoint-url", site.endpoint, "cp", "--concurrency", "16", "--part-size", "8"]
    command = [script("s5cmd"), *options, f"s3://{BUCKET}/model/*", f"{target}/"]
    return Plan(command, site.work / "model", CREDENTIALS, download=target)


def boto3(site: Site) -> Plan:
    target = site.work / "download"
    command = [sys.executable, "-m", "benchmarks.fetch", site.endpoint, BUCKET, "model/", str(target)]
    return Plan(command, site.work / "model", CREDENTIALS, download=target)


def rclone(site: Site) -> Plan:
    mountpoint = _fresh(site.work / "mnt")
    remote = f":s3,provider=Other,env_auth=true,endpoint='{site.endpoint}',region=us-east-1:{BUCKET}/model"
    command = [
        script("rclone"), "mount2", remote, str(mountpoint), "--read-only", "--config", "/dev/null",
        "--cache-dir", str(site.work / "cache"), "--vfs-cache-mode", "full", "--vfs-read-chunk-streams", "8",
        "--vfs-read-chunk-size", "8M", "--vfs-read-ahead", "512M", "--max-read-ahead", "1M", "--no-modtime",
    ]  # fmt: skip
    return Plan(command, mountpoint, CREDENTIALS)


def s3fs(site: Site) -> Plan:
    mountpoint = _fresh(site.work / "mnt")
    options = [
        f"url={site.endpoint}", "use_path_request_style", f"use_cache={site.work / 'cache'}",
        "parallel_count=16", "multireq_max=20", "ro", "endpoint=us-east-1", "kernel_cache",
    ]  # fmt: skip
    command = ["s3fs", f"{BUCKET}:/model", str(mountpoint), "-f", "-o", ",".join(options)]
    names = {"AWSACCESSKEYID": "benchmark", "AWSSECRETACCESSKEY": "benchmark"}
    return Plan(command, mountpoint, names)


def seaweedfs(site: Site) -> Plan:
    mountpoint = _fresh(site.work / "mnt")
    base = [sys.executable, "-m", "benchmarks.weed"]
    ports_file = site.work / "ports"
    if not ports_file.exists():
        ports_file.write_text(" ".join(map(str, free_ports(6))))
    ports, weed = ports_file.read_text().split(), script("weed")
    service = [*base, "serve", weed, str(_fresh(site.work / "cluster")), *ports]
    command = [*base, "mount", weed, str(site.work / "cluster"), *ports, site.endpoint, str(mountpoint)]
    return Plan(command, mountpoint, CREDENTIALS, service=service)


def runai(site: Site) -> Plan:
    variables = {
        "AWS_ENDPOINT_URL": site.endpoint,
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
    }
    return Plan([], Path(f"{BUCKET}/model"), CREDENTIALS | variables)


def disk(site: Site) -> Plan:
    return Plan([], site.disk, {})


SYSTEMS = {
    "lazyfs": System(Kind.MOUNT, lazyfs, "lazyfs mount with its defaults", ("lazyfs",)),
    "lazyfs-pull": System(
        Kind.DOWNLOAD, lazyfs_pull, "lazyfs pull to the local disk, then load", ("lazyfs",)
    ),
    "lazyfs-hub": System(
        Kind.MOUNT, lazyfs_hub, "lazyfs mount of a Hub whose files the same server has", ("lazyfs",)
    ),
    "s5cmd": System(Kind.DOWNLOAD, s5cmd, "s5cmd cp to the local disk, then load", ("s5cmd",)),
    "boto3": System(Kind.DOWNLOAD, boto3, "boto3, 16 threads, to the local disk, then load"),
    "rclone": System(
        Kind.MOUNT, rclone, "rclone mount2 with its full cache", ("rclone", "fusermount3"), before_warm_s=7
    ),
    "s3fs": System(Kind.MOUNT, s3fs, "s3fs with its cache", ("s3fs",), cure="scripts/install-system bench"),
    "seaweedfs": System(Kind.MOUNT, seaweedfs, "SeaweedFS mount of remote storage", ("weed", "fusermount3")),
    "runai": System(
        Kind.LOADER,
        runai,
        "Run:ai Model Streamer straight from S3",
        modules=("runai_model_streamer", "runai_model_streamer_s3"),
        cure="pip install 'lazyfs[bench-runai]'",
        readers=("mmap", "tp4", "transformers"),
    ),
    "disk": System(Kind.DISK, disk, "the model on the local disk already"),
}


def _fresh(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def found(name: str) -> str | None:
    """Return a command of this environment, or the system's."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def script(name: str) -> str:
    return found(name) or name


def environment(plan: Plan) -> dict[str, str]:
    """Return this process's environment with the plan's variables, and no proxies."""
    inherited = {
        k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("LAZYFS_")
    }
    return inherited | plan.environment
