"""What the node plugin remembers across its own death: small files, written whole or not at all. No secret.

`salt`, `volumes/NAME.json` for each mount, `targets/HASH.json` for each place it is shown at, and
`mounts/NAME`, where it is mounted. What is really mounted is in the list of mounts: that counts.
"""

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lazyfs.errors import LazyfsError

log = logging.getLogger(__name__)

_SALT_BYTES = 32


class StateUnusable(LazyfsError):
    """What has to be remembered cannot be written."""


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """A mount: its name, what it shares by, and its device."""

    name: str
    share: str
    label: str
    device: str


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """A place where a mount is shown."""

    target: str
    volume_id: str
    name: str
    """Of the mount."""
    asked: str
    """A hash of what was asked for."""
    identity: str
    """Whose credentials were shown last."""


class Records:
    """The files below a directory."""

    def __init__(self, directory: Path) -> None:
        """Find them, or begin.

        Raises:
            StateUnusable: when the directory cannot be made or written to.

        """
        self._directory = directory = directory.resolve()  # as the list of mounts has what is below it
        try:
            for name in ("volumes", "targets", "mounts"):
                (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.salt = self._salt()
        except OSError as error:
            raise StateUnusable(f"{directory} cannot be used: {error.strerror}", "see --state-dir") from None

    def _salt(self) -> bytes:
        file = self._directory / "salt"
        with suppress(FileNotFoundError):
            found = file.read_bytes()
            if len(found) == _SALT_BYTES:
                return found
        made = secrets.token_bytes(_SALT_BYTES)
        _write(file, made)
        return made

    @property
    def mounts(self) -> Path:
        """The directory of the mounts."""
        return self._directory / "mounts"

    def keep(self, record: VolumeRecord | TargetRecord) -> None:
        """Remember this."""
        _write(self._file(record), json.dumps(asdict(record)).encode())

    def forget(self, record: VolumeRecord | TargetRecord) -> None:
        """Do not remember it any longer."""
        try:
            self._file(record).unlink(missing_ok=True)
        except OSError as error:  # what is not mounted any more is not believed either
            log.warning("record_left path=%r error=%r", str(self._file(record)), error.strerror)

    def volumes(self) -> Iterator[VolumeRecord]:
        """Yield the mounts that are remembered."""
        for document in _documents(self._directory / "volumes"):
            yield VolumeRecord(**_known(VolumeRecord, document))

    def targets(self) -> Iterator[TargetRecord]:
        """Yield the targets that are remembered."""
        for document in _documents(self._directory / "targets"):
            yield TargetRecord(**_known(TargetRecord, document))

    def _file(self, record: VolumeRecord | TargetRecord) -> Path:
        if isinstance(record, VolumeRecord):
            return self._directory / "volumes" / f"{record.name}.json"
        name = hashlib.sha256(os.fsencode(record.target)).hexdigest()[:32]
        return self._directory / "targets" / f"{name}.json"


def _known(kind: type, document: dict[str, Any]) -> dict[str, str]:
    """Return what this version knows of what another one may have written."""
    return {field.name: str(document.get(field.name, "")) for field in fields(kind)}


def _documents(directory: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(directory.glob("*.json")):
        with suppress(OSError, ValueError):
            document = json.loads(file.read_bytes())
            if isinstance(document, dict):
                yield document


def _write(file: Path, content: bytes) -> None:
    made = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(content)
        made.rename(file)
    except OSError as error:
        with suppress(OSError):
            made.unlink(missing_ok=True)
        raise StateUnusable(f"{file} cannot be written: {error.strerror}", "see the node's disk") from None
