"""Where volumes are shown: one place per pod and volume. One call at a time for each."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from lazyfs_csi.answers import Refused
from lazyfs_csi.binding import ours_at, settled
from lazyfs_csi.mounts import Mounts
from lazyfs_csi.records import Records, TargetRecord

log = logging.getLogger(__name__)


class Targets:
    """What is shown where. Any thread may call; what changes a target holds its lock (`alone`)."""

    def __init__(self, records: Records, mounts: Mounts) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._busy: set[Path] = set()
        self._found: dict[Path, TargetRecord] = {}
        for record in records.targets():
            path = Path(record.target)
            if ours_at(path) is not None and mounts.shows(record.name, path):
                self._found[path] = record
            else:
                records.forget(record)

    @contextmanager
    def alone(self, target: str) -> Iterator[Path]:
        """Be the only one to change a target; yields its settled path.

        Raises:
            Refused: ABORTED when another call does so now.

        """
        path = settled(target)
        with self._lock:
            if path in self._busy:
                raise Refused(
                    grpc.StatusCode.ABORTED, f"another call is still at work on {target}; it is asked again"
                )
            self._busy.add(path)
        try:
            yield path
        finally:
            with self._lock:
                self._busy.discard(path)

    def get(self, path: Path) -> TargetRecord | None:
        """Return what is shown at a target."""
        return self._found.get(path)

    def keep(self, path: Path, record: TargetRecord) -> None:
        """Remember what is shown there, or will be in a moment."""
        self._records.keep(record)
        self._found[path] = record

    def forget(self, path: Path) -> TargetRecord | None:
        """Remember it no longer; return what it was."""
        record = self._found.pop(path, None)
        if record is not None:
            self._records.forget(record)
        return record
