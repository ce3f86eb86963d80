"""`lazyfs publish`: a directory becomes a model in object storage, with `lazyfs.json` beside it.

While it is at work, the `lazyfs.json` at the destination lists what is there already and is no publication to
anybody: nobody can take a model that is half replaced for a complete one, and a `publish` that was killed is
gone on with. Every file is read once, and hashed as it is sent.
"""

import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from lazyfs.commands.sending import told
from lazyfs.commands.uploading import Work
from lazyfs.config import SourceOptions
from lazyfs.core.blob import BlobRef
from lazyfs.core.manifest import build, selected
from lazyfs.core.publication import FILE_NAME, reading_order
from lazyfs.core.publishing import Step, left_out
from lazyfs.errors import AccessDenied, SourceMissing, SourceUnavailable, UsageError
from lazyfs.sources.base import Access
from lazyfs.sources.destination import Check, Destination, open_destination
from lazyfs.sources.local import LocalSource, path_of
from lazyfs.telemetry.logs import configure
from lazyfs.telemetry.status import bytes_text, duration_text

log = logging.getLogger(__name__)

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Summary:
    """What was done."""

    source: str
    destination: str
    files: int
    bytes: int
    sent_files: int
    sent_bytes: int
    left_out: tuple[str, ...]
    not_ours: tuple[str, ...]
    check: str
    seconds: float


def publish(
    directory: Path, address: str, options: SourceOptions, *, checksum: bool = False, dry_run: bool = False
) -> Summary:
    """Publish `directory` to `address`; with `checksum` files are read that look as they did, too.

    Raises:
        LazyfsError: when it cannot be read, or the destination does not take it.

    """
    terminal = sys.stderr.isatty()
    configure("WARNING" if terminal else "INFO", "text", None)
    began_s = time.monotonic()
    files, omitted = _scan(directory, options)
    _refuse_inside(directory, address)
    style, allowed = options.addressing_style, options.allow_source
    access = Access(options.endpoint_url, options.anonymous, style, allowed)
    with _open(address, access) as destination:
        work = Work(directory, destination, files, checksum=checksum)
        if not dry_run:
            with told(work.tally, terminal=terminal):
                work.run()
        not_ours = work.not_ours()
        if not_ours:
            log.warning("publish_others_there files=%d first=%r", len(not_ours), not_ours[0])
        done = [task for task in work.tasks if task.step is not Step.KEEP] if dry_run else work.sent
        return Summary(
            str(directory), address, len(files), sum(file.size_bytes for file in files), len(done),
            sum(task.file.size_bytes for task in done) if dry_run else work.tally.sent_bytes,
            omitted, not_ours, str(destination.check), round(time.monotonic() - began_s, 3),
        )  # fmt: skip


def as_json(summary: Summary) -> str:
    """Return the summary as one JSON object."""
    return json.dumps(asdict(summary), indent=1)


def as_lines(summary: Summary, *, dry_run: bool) -> Iterator[str]:
    """Yield what a person wants to know."""
    total, sent = bytes_text(summary.bytes), bytes_text(summary.sent_bytes)
    if dry_run:
        yield f"Of {summary.files} files, {total}, at most {summary.sent_files} would be sent, {sent}."
    else:
        yield (
            f"{summary.destination} has {summary.files} files, {total}, and {FILE_NAME}; "
            f"sent {sent} of it in {duration_text(summary.seconds)}."
        )
    if summary.left_out:
        yield f"Left out, being hidden or not complete: {_some(summary.left_out)}."
    if summary.not_ours:
        yield f"Also there, and shown by a mount, but not published now: {_some(summary.not_ours)}."
    if not dry_run and summary.check != Check.CHECKSUM:
        compared = "the MD5 of what was sent was" if summary.check == Check.MD5 else "only sizes were"
        yield f"The server keeps no checksums; {compared} compared."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004


def _scan(directory: Path, options: SourceOptions) -> tuple[list[BlobRef], tuple[str, ...]]:
    """Return the files to publish, in the order an engine reads them, and the names of those left out."""
    if not directory.is_dir():
        raise SourceMissing(f"there is no directory {directory}", "check the path")
    try:
        source = LocalSource(directory)
        found = [blob for blob in source.below() if blob.name != FILE_NAME]
    except PermissionError as error:
        raise AccessDenied(f"{error.filename} may not be read", "check its permissions") from None
    _refuse_dangling(source.dangling, options)
    omitted = tuple(sorted(blob.name for blob in found if left_out(blob.name)))
    manifest = build(
        str(directory), [b for b in found if not left_out(b.name)], options.include, options.exclude
    )
    for refused in manifest.refused:
        log.warning("name_refused name=%r why=%r", refused.name, refused.reason)
    if omitted:
        log.info("publish_left_out files=%d first=%r", len(omitted), omitted[0])
    if not manifest.blobs:
        raise SourceMissing(
            f"there is nothing to publish in {directory}", "check the path, and what was left out"
        )
    return sorted(manifest.blobs, key=lambda blob: reading_order(blob.name)), omitted


def _refuse_dangling(dangling: Sequence[str], options: SourceOptions) -> None:
    """Refuse links that lead nowhere: a shard whose blob is missing would be left out of a complete model."""
    wanted = [
        name for name in dangling if not left_out(name) and selected(name, options.include, options.exclude)
    ]
    if wanted:
        raise SourceMissing(
            f"{_some(sorted(wanted))}: a link that leads nowhere", "download it again, or --exclude it"
        )


def _refuse_inside(directory: Path, address: str) -> None:
    """Refuse a destination inside the directory: every run would publish what the last one did."""
    scheme, separator, _ = address.partition("://")
    if separator and scheme.lower() != "file":
        return
    target = (path_of(address) if separator else Path(address)).resolve()
    if directory.resolve() in target.parents:
        raise UsageError(f"{address} is inside {directory}", "publish to a directory beside it")


@contextmanager
def _open(address: str, access: Access) -> Iterator[Destination]:
    """Give the destination; however the block ends, its work is ended first and cleaned up after."""
    destination = open_destination(address, access)
    for number in ENDING:
        signal.signal(number, _unwind)
    resume = False
    try:
        yield destination
    except SourceUnavailable:
        resume = True  # what is there of large files is worth keeping
        raise
    finally:
        destination.close(resume=resume)


def _unwind(number: int, _frame: object) -> NoReturn:
    """Handle the first signal: clean up, then end. A second one ends at once, whoever does not answer."""
    for other in ENDING:
        signal.signal(other, signal.SIG_DFL)
    sys.stderr.write("\nlazyfs: ending; what is complete at the destination stays, run it again to go on\n")
    raise SystemExit(128 + number)
