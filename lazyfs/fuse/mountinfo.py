"""What is mounted, from /proc/self/mountinfo: never by touching the mount itself, which may hang."""

import re
from dataclasses import dataclass
from pathlib import Path

FILESYSTEM = "fuse.lazyfs"


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo (proc(5)): where, which device, what kind, and the source it was given."""

    mountpoint: str
    device: str
    filesystem: str
    source: str


def parse(text: str) -> list[Mounted]:
    """Return the mounts a mountinfo text lists, in order; of several at one place the last is on top."""
    mounts = []
    for line in text.split("\n"):  # not splitlines: a name may hold other line ends
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if separator and len(fields) > 4 and len(rest) > 1:  # noqa: PLR2004 - field 5 is the mount point
            mounts.append(Mounted(_unescape(fields[4]), fields[2], rest[0], _unescape(rest[1])))
    return mounts


def _unescape(field: str) -> str:
    r"""Undo proc's `\040` for a space and its like."""
    return re.sub(
        rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field.encode("utf-8", "surrogateescape")
    ).decode("utf-8", "surrogateescape")


def mounts() -> list[Mounted]:
    """Return everything mounted in this mount namespace."""
    return parse(Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape"))


def mounted_at(mountpoint: Path) -> Mounted | None:
    """Return the topmost mount at exactly this path, which should be absolute and without links."""
    return next((m for m in reversed(mounts()) if m.mountpoint == str(mountpoint)), None)


def lazyfs_mounts() -> list[Mounted]:
    """Return the mounts that are ours."""
    return [mounted for mounted in mounts() if mounted.filesystem == FILESYSTEM]
