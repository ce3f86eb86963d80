"""A disk that fails when it is told to: a directory, passed through FUSE by a process of its own.

`with FaultyDisk(path) as disk: disk.fail(write="EIO")`; the process is `python -m tests.faults.disk`.
What to do is read from a file beside the directory before each operation: an error's name, `hang`, or seconds
to wait. A block device that fails would need a device mapper, which not every kernel has.
"""

import errno
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import pyfuse3
import trio

HANG = "hang"


class FaultyDisk:
    """Mounted for the length of a `with` block; needs root."""

    def __init__(self, path: Path) -> None:
        self._below, self.root = path / "below", path / "disk"
        self._process: subprocess.Popen[str] | None = None

    def fail(self, **how: str | float) -> None:
        """Have `read`, `write` or `make` fail from now on, in the way given; without arguments, none."""
        aside = self._below.with_name("aside")
        aside.write_text(json.dumps(how))
        aside.rename(self._below.with_name("how"))

    def __enter__(self) -> Self:
        """Mount."""
        self._below.mkdir()
        self.root.mkdir()
        self.fail()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.disk", str(self._below), str(self.root)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert "mounted\n" == self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount; whoever waits for an answer gets an error."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)


class _Passing(pyfuse3.Operations):
    """Passes everything through that a cache needs."""

    def __init__(self, below: Path) -> None:
        super().__init__()
        self._how = below.with_name("how")
        self._paths: dict[int, Path] = {pyfuse3.ROOT_INODE: below}

    async def _trouble(self, what: str) -> None:
        while (how := json.loads(self._how.read_text()).get(what)) == HANG:
            await trio.sleep(0.02)
        if isinstance(how, str):
            raise pyfuse3.FUSEError(getattr(errno, how))
        if how:
            await trio.sleep(how)

    def _path(self, parent: int, name: bytes) -> Path:
        return self._paths[parent] / os.fsdecode(name)

    def _known(self, path: Path) -> pyfuse3.EntryAttributes:
        state = _tried(path.lstat)
        found = pyfuse3.EntryAttributes()
        for name in (
            "ino",
            "mode",
            "nlink",
            "uid",
            "gid",
            "size",
            "atime_ns",
            "mtime_ns",
            "ctime_ns",
            "blocks",
        ):
            setattr(found, f"st_{name}", getattr(state, f"st_{name}"))
        if path == self._paths[pyfuse3.ROOT_INODE]:
            found.st_ino = pyfuse3.ROOT_INODE
        self._paths[found.st_ino] = path
        found.entry_timeout = found.attr_timeout = 0
        return found

    async def lookup(self, parent, name, ctx=None):
        return self._known(self._path(parent, name))

    async def getattr(self, inode, ctx=None):
        return self._known(self._paths[inode])

    async def setattr(self, inode, attr, fields, fh, ctx):
        path = self._paths[inode]
        if fields.update_size:
            _tried(os.truncate, path, attr.st_size)
        if fields.update_mtime:
            _tried(lambda: os.utime(path, ns=(attr.st_mtime_ns, attr.st_mtime_ns)))
        return self._known(path)

    async def mkdir(self, parent, name, mode, ctx):
        await self._trouble("make")
        _tried(self._path(parent, name).mkdir, mode & 0o777)
        return self._known(self._path(parent, name))

    async def create(self, parent, name, mode, flags, ctx):
        await self._trouble("make")
        path = self._path(parent, name)
        fd = _tried(os.open, path, flags & ~os.O_DIRECT | os.O_CREAT, mode & 0o777)
        return pyfuse3.FileInfo(fh=fd), self._known(path)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=_tried(os.open, self._paths[inode], flags & ~os.O_DIRECT))

    async def read(self, fh, off, size):
        await self._trouble("read")
        return _tried(os.pread, fh, size, off)

    async def write(self, fh, off, buf):
        await self._trouble("write")
        return _tried(os.pwrite, fh, buf, off)

    async def release(self, fh):
        os.close(fh)

    async def unlink(self, parent, name, ctx):
        _tried(self._path(parent, name).unlink)

    async def rmdir(self, parent, name, ctx):
        _tried(self._path(parent, name).rmdir)

    async def rename(self, old, old_name, new, new_name, flags, ctx):
        target = self._path(new, new_name)
        _tried(self._path(old, old_name).rename, target)
        self._known(target)

    async def link(self, inode, parent, name, ctx):
        path = self._path(parent, name)
        _tried(os.link, self._paths[inode], path)
        return self._known(path)

    async def opendir(self, inode, ctx):
        return inode

    async def readdir(self, fh, start_id, token):
        for number, path in enumerate(sorted(self._paths[fh].iterdir())[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, os.fsencode(path.name), self._known(path), number):
                return

    async def statfs(self, ctx):
        state, found = os.statvfs(self._paths[pyfuse3.ROOT_INODE]), pyfuse3.StatvfsData()
        for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"):
            setattr(found, f"f_{name}", getattr(state, f"f_{name}"))
        return found


def _tried(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno) from None


def _main(below: Path, mountpoint: Path) -> None:
    options = set(pyfuse3.default_options) - {"default_permissions"}
    pyfuse3.init(_Passing(below), str(mountpoint), options | {"fsname=faulty"})
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        trio.run(pyfuse3.main)
    pyfuse3.close()


def waited_for(condition, timeout_s: float = 10.0):
    """Wait until `condition` holds; return what it returned."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return found


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
