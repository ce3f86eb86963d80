"""Three ways to start vLLM on a model, each timed from its command: from disk, after a download, on lazyfs.

Each is a new machine's first start: an empty cache, a process that has imported nothing.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.mounting import mounted
from tests.vllm.engine import Engine
from tests.vllm.hosting import Hosted
from tests.vllm.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Started:
    """When things were there, what the engine said, and what lazyfs did for it (its status)."""

    timeline: Timeline
    tokens: list[list[int]]
    logprobs: list[list[float]]
    status: dict[str, Any] = field(default_factory=dict)


def from_disk(hosted: Hosted, work: Path) -> Started:
    """Start on a local disk that has to be read: nothing of the model is in memory."""
    _forget(hosted.directory)
    began_s = time.monotonic()
    return _start("local disk", began_s, began_s, hosted.directory, work)


def after_download(hosted: Hosted, work: Path) -> Started:
    """Download the whole model, then start."""
    target = work / "download"
    began_s = time.monotonic()
    hosted.download(target)
    started = _start("download, then start", began_s, time.monotonic(), target, work)
    shutil.rmtree(target)
    return started


def on_lazyfs(hosted: Hosted, work: Path) -> Started:
    """Mount, and start as soon as the directory is there."""
    work.mkdir(parents=True)
    began_s = time.monotonic()
    # A size of its own: `auto` keeps nothing where less than a tenth of the disk is free.
    cache = ("--cache-dir", work / "cache", "--cache-size", "10GB")
    with mounted(hosted.address, work / "mnt", *cache, env=hosted.environment) as mount:
        started = _start("lazyfs", began_s, time.monotonic(), mount.path, work)
        status = mount.complete()
    shutil.rmtree(work / "cache")
    return Started(started.timeline, started.tokens, started.logprobs, status)


WAYS: dict[str, Callable[[Hosted, Path], Started]] = {
    "disk": from_disk,
    "download": after_download,
    "lazyfs": on_lazyfs,
}


def _start(name: str, began_s: float, there_s: float, directory: Path, work: Path) -> Started:
    with Engine(work / "engine") as engine:
        said: dict[str, Any] = engine.load("vllm", directory)
    times = said["times"]
    names = ("imported", "weights_wanted", "weights_loaded", "ready", "first_token")
    seconds = (there_s - began_s, *(times[event] - began_s for event in names))
    return Started(Timeline(name, *seconds), said["tokens"], said["logprobs"])


def _forget(directory: Path) -> None:
    """Drop a directory's files from memory."""
    for file in directory.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)  # only what is written can be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
