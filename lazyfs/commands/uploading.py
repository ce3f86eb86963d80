"""The work of `lazyfs publish`: find out what is there, send the rest, compare; then write `lazyfs.json`."""

import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from lazyfs.commands.sending import Tally
from lazyfs.core.blob import BlobRef
from lazyfs.core.duplicates import WEIGHTS
from lazyfs.core.parts import PART_BYTES
from lazyfs.core.publication import (
    CONTENT_BYTES_MAX,
    FILE_NAME,
    Publication,
    Published,
    encode,
    parse,
    parse_unfinished,
)
from lazyfs.core.publishing import Step, Task, left_out, plan
from lazyfs.core.safetensors import LENGTH_BYTES, header_length
from lazyfs.core.safetensors import parse as parse_header
from lazyfs.errors import BadHeader, BadPublication, BlobChanged, UsageError
from lazyfs.sources.destination import Destination, Reading

log = logging.getLogger(__name__)

FILES_AT_ONCE = 4
"""Each is read and hashed by one thread; its parts are sent by others."""


class Work:
    """One publication under way."""

    def __init__(self, root: Path, destination: Destination, files: list[BlobRef], *, checksum: bool) -> None:
        self._root = root
        self._destination = destination
        self._files = files
        self._held = {blob.name: blob for blob in destination.list()}
        content = destination.read_publication()
        known = _known(content)
        claims = {claim.name: claim for claim in known.files}
        current = {
            name: claims[name].size_bytes == held.size_bytes and destination.same(claims[name], held) is True
            for name, held in self._held.items()
            if name in claims
        }
        tasks = plan(files, known, self._held, current)
        self.tasks = [replace(task, step=_reread(task.step)) if checksum else task for task in tasks]
        self._done = {name: claim for name, claim in claims.items() if current.get(name)}
        said = self._done.keys() | {file.name for file in files}
        self._complete = _is_complete(content) and claims.keys() == said
        self.sent: list[Task] = []
        self.tally = Tally(sum(file.size_bytes for file in files))

    def not_ours(self) -> tuple[str, ...]:
        """Return the names of what else is at the destination."""
        ours = {file.name for file in self._files}
        return tuple(sorted(name for name in self._held if name not in ours and not left_out(name)))

    def run(self) -> None:
        """Do everything that is left to be done."""
        todo = [task for task in self.tasks if task.step is not Step.KEEP]
        self.tally(sum(task.file.size_bytes for task in self.tasks if task.step is Step.KEEP), False)
        if not todo and self._complete:
            log.info("publish_nothing_to_do files=%d", len(self._files))
            return
        log.info("publish_began files=%d there=%d", len(self._files), len(self._files) - len(todo))
        self._destination.prepare(self._files)
        self._write(complete=False)
        self._do(todo)
        self._check()
        self._write(complete=True)
        log.info("published files=%d sent_bytes=%d", len(self._files), self.tally.sent_bytes)

    def _do(self, todo: list[Task]) -> None:
        """Do the tasks, some at a time; with the first that fails all end."""
        threads = ThreadPoolExecutor(FILES_AT_ONCE, "file")
        try:
            pending: set[Future[tuple[Task, Published, bool]]] = {
                threads.submit(self._one, task) for task in todo
            }
            while pending:
                ended, pending = wait(pending, return_when=FIRST_COMPLETED)
                results = [future.result() for future in ended]
                for task, published, sent in results:
                    self._done[task.file.name] = published
                    self.sent += [task] * sent
                if any(task.file.size_bytes > PART_BYTES for task, _, _ in results):
                    self._write(complete=False)  # small ones are sent again as fast
        except BaseException:
            self._destination.stop()
            raise
        finally:
            threads.shutdown(cancel_futures=True)

    def _one(self, task: Task) -> tuple[Task, Published, bool]:
        """Do one task; return what to publish of the file, and whether it was sent."""
        file, path, began_s = task.file, self._root / task.file.name, time.monotonic()
        tensors = _tensors(path, file)
        published = self._compared(task, path)
        if published is not None:
            self.tally(file.size_bytes, False)
            return task, replace(published, tensors=tensors), False
        published = self._destination.send(path, file, self.tally)
        log.info(
            "publish_sent name=%r bytes=%d seconds=%.1f",
            file.name,
            file.size_bytes,
            time.monotonic() - began_s,
        )
        return task, replace(published, tensors=tensors), True

    def _compared(self, task: Task, path: Path) -> Published | None:
        """Return what to publish of a file that turns out to be there."""
        if task.step is Step.SEND or task.held is None:
            return None
        if task.published is not None:
            reading = Reading(path, task.file)
            reading.read()
            sha256 = reading.sha256 if reading.sha256 == task.published.sha256 else None
        else:
            sha256 = self._destination.digest_if_same(path, task.file, task.held)
        return None if sha256 is None else self._destination.published(task.file, task.held, sha256)

    def _check(self) -> None:
        """Compare what the destination lists with what was sent.

        Raises:
            BlobChanged: when it is not the same.

        """
        self._held = {blob.name: blob for blob in self._destination.list()}
        for file in self._files:
            held, published = self._held.get(file.name), self._done[file.name]
            if held is None:
                self._refuse_renamed(file, published)
            if (
                held is None
                or held.size_bytes != file.size_bytes
                or not self._destination.same(published, held)
            ):
                raise BlobChanged(
                    f"{file.name!r} at the destination is not what was sent",
                    "does somebody else publish there? then run it again",
                )

        self._done = {name: said for name, said in self._done.items() if self._is_there(said)}

    def _is_there(self, published: Published) -> bool:
        held = self._held.get(published.name)
        return (
            held is not None
            and held.size_bytes == published.size_bytes
            and self._destination.same(published, held) is True
        )

    def _refuse_renamed(self, file: BlobRef, published: Published) -> None:
        """Say so if the server has put a file under another name, as some do with a backslash.

        Raises:
            UsageError: then.

        """
        ours = {one.name for one in self._files}
        for name, held in self._held.items():
            if name not in ours and self._is_there(replace(published, name=name)):
                raise UsageError(
                    f"the server lists {file.name!r} as {held.name!r}: it changes the name",
                    "rename the file, or publish to a server that keeps names; remove what it has there",
                )

    def _write(self, *, complete: bool) -> None:
        # Also what an earlier publication says of other files that are still there: this may be a part only.
        content = encode(Publication(tuple(self._done.values())), complete=complete)
        if len(content) > CONTENT_BYTES_MAX:
            raise BadPublication(
                f"there are too many files for one {FILE_NAME}", "publish them in several parts"
            )
        self._destination.write_publication(content)


def _known(content: bytes | None) -> Publication:
    """Return what an earlier publication says, whether it was completed or not."""
    if content is None:
        return Publication(())
    try:
        return parse_unfinished(content)
    except BadPublication as error:
        log.warning("publication_unusable error=%r", str(error))
        return Publication(())


def _is_complete(content: bytes | None) -> bool:
    try:
        parse(content or b"")
    except BadPublication:
        return False
    return True


def _reread(step: Step) -> Step:
    return Step.COMPARE if step is Step.KEEP else step


def _tensors(path: Path, file: BlobRef) -> tuple[str, ...] | None:
    """Return the names of a file's tensors as they lie in it, None when it is no safetensors file."""
    if not file.name.endswith(WEIGHTS):
        return None
    try:
        with path.open("rb") as opened:
            length = header_length(opened.read(LENGTH_BYTES), file.size_bytes)
            return tuple(tensor.name for tensor in parse_header(opened.read(length), file.size_bytes).tensors)
    except BadHeader as error:
        log.warning("publish_bad_header name=%r error=%r", file.name, str(error))
        return None
    except OSError:
        return None  # reading all of it will say why
