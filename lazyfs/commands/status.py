"""`lazyfs status`: what the mounts of this machine say of themselves, even when they say nothing."""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lazyfs.errors import MountpointError
from lazyfs.fuse.liveness import Liveness, read_status
from lazyfs.fuse.mountinfo import FILESYSTEM, Mounted, lazyfs_mounts, mounted_at
from lazyfs.supervisor.preflight import resolve
from lazyfs.telemetry.status import bytes_text, duration_text, from_json

WATCH_S = 1.0
ASKED_AT_ONCE = 32


def ask(mountpoint: Path | None) -> list[dict[str, Any]]:
    """Return a document for the mount at `mountpoint`, or for every one; `state` says how it answers.

    Raises:
        MountpointError: when nothing of ours is mounted there.

    """
    if mountpoint is None:
        with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:  # several may hang
            return list(threads.map(_document, lazyfs_mounts()))
    path = resolve(mountpoint)
    mounted = mounted_at(path)
    if mounted is None or mounted.filesystem != FILESYSTEM:
        raise MountpointError(f"{path} is not a lazyfs mount", "`lazyfs status` lists those there are")
    return [_document(mounted)]


def _document(mounted: Mounted) -> dict[str, Any]:
    said = read_status(Path(mounted.mountpoint))
    known = {"mountpoint": mounted.mountpoint, "source": mounted.source}
    if isinstance(said, Liveness):
        return known | {"state": said.value}
    try:
        return from_json(said) | {"mountpoint": mounted.mountpoint, "state": Liveness.ALIVE.value}
    except ValueError:
        return known | {"state": Liveness.HANGS.value}


def as_json(documents: list[dict[str, Any]], *, one: bool) -> str:
    """Return the documents as JSON: the one that was asked for, or a list."""
    return json.dumps(documents[0] if one else documents, indent=1)


def as_lines(documents: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the documents for people, or that there are none."""
    if not documents:
        yield "There are no lazyfs mounts in this mount namespace."
    for document in documents:
        yield f"{document['mountpoint']}  {document['source']}"
        try:
            yield from [f"  {line}" for line in _about(document)]
        except KeyError:
            yield "  alive; its lazyfs is of another version, `--json` shows what it says"


def _about(document: dict[str, Any]) -> Iterator[str]:
    path = document["mountpoint"]
    if document["state"] == Liveness.DEAD:
        yield "DEAD: its process is gone, every access fails"
        yield f"cure: lazyfs unmount {path}, then mount it again"
        return
    if document["state"] == Liveness.HANGS:
        yield "HANGS: its process does not answer"
        yield f"cure: look at its log; to take it away: lazyfs unmount --force {path}"
        return
    if document["state"] == Liveness.HIDDEN:
        yield "may not be read by this user: it was mounted without --allow-other"
        return
    needed, local = document["bytes_needed"], document["bytes_local"]
    share = 100 * local / needed if needed else 100
    rate = document["rate_bytes_per_s"]
    line = f"{document['phase']}: {bytes_text(local)} of {bytes_text(needed)} on this node ({share:.0f} %)"
    if rate:
        line += f", {bytes_text(rate)}/s"
    if document["eta_s"] is not None:
        line += f", {duration_text(document['eta_s'])} to go"
    yield line
    yield (
        f"served {bytes_text(document['bytes_served'])}, fetched {bytes_text(document['bytes_fetched'])}, "
        f"memory {bytes_text(document['memory_bytes'])} of {bytes_text(document['memory_budget_bytes'])}, "
        f"cache {bytes_text(document['cache_bytes'])} of {bytes_text(document['cache_budget_bytes'])}"
    )
    yield f"pid {document['pid']}, up {duration_text(max(0.0, time.time() - document['started_at']))}"
    yield from _troubles(document)


def _troubles(document: dict[str, Any]) -> Iterator[str]:
    if document["oldest_wait_s"] > 1:
        waited = duration_text(document["oldest_wait_s"])
        yield f"a reader has waited {waited} for {document['oldest_wait']}"
    if document["errors"]:
        yield f"{document['errors']} errors, the last: {document['last_error']}"
    if document["cache_state"] not in {"healthy", "off"}:
        yield f"the disk of the cache is in state {document['cache_state']}: {document['cache_why']}"
    if document["repairs"]:
        yield f"{document['repairs']} damaged blocks or files of the cache have been repaired"
    if document["declined"]:
        yield f"{document['declined']} blocks were served and not stored: the cache is full, slow or broken"
    yield from document["untuned"]


def show(mountpoint: Path | None, *, as_document: bool, watch: bool) -> int:
    """Print the status, again and again if `watch`; return the exit code."""
    if not watch:
        return _print(mountpoint, as_document=as_document)
    try:
        while True:
            if sys.stdout.isatty():
                sys.stdout.write("\033[H\033[J")  # home, and clear what is below
            _print(mountpoint, as_document=as_document)
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return 0


def _print(mountpoint: Path | None, *, as_document: bool) -> int:
    documents = ask(mountpoint)
    one = mountpoint is not None
    sys.stdout.write((as_json(documents, one=one) if as_document else "\n".join(as_lines(documents))) + "\n")
    sys.stdout.flush()
    return 1 if any(document["state"] in {Liveness.DEAD, Liveness.HANGS} for document in documents) else 0
