"""Every error lazyfs raises on purpose, in one tree.

What a reader's system call returns (`errno`), whether trying again can help (`retryable`) and what a
command exits with (`exit_code`) live on the class, so that no other place maps errors. The message names
the cause; `cure` says what the user can do about it. Neither ever holds a credential.
"""

import errno
import re
from typing import ClassVar


class LazyfsError(Exception):
    """Something a user or an operator can understand; the root of the tree."""

    errno: ClassVar[int] = errno.EIO
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        """One line: the cause, then the cure."""
        return f"{self.cause}; {self.cure}" if self.cure else self.cause

    @classmethod
    def kind(cls) -> str:
        """Return the class name in snake case: the `kind` label of metrics and log lines."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class Reported(LazyfsError):
    """What another process of ours raised and could only tell; its exit code comes with it."""

    def __init__(self, cause: str, cure: str, exit_code: int, what: str = "") -> None:
        super().__init__(cause, cure)
        self.exit_code = exit_code  # type: ignore[misc]
        self.what = what
        """What kind of error it was there, if that was told."""


class UsageError(LazyfsError):
    """An argument that cannot be right: a malformed option, an unknown scheme."""

    exit_code = 2


class SourceMissing(LazyfsError):
    """No such bucket, prefix, object or directory, or nothing in it that could be mounted."""

    errno = errno.ENOENT
    exit_code = 3


class AccessDenied(LazyfsError):
    """The source refuses these credentials, or there are none."""

    errno = errno.EACCES
    exit_code = 4


class CredentialsInvalid(AccessDenied):
    """There are no credentials, or the source does not know them as anybody's: wrong, or expired."""


class CredentialsExpired(CredentialsInvalid):
    """They were right, and are over: whoever gives them out may give others while a reader waits."""

    retryable = True


class ClockSkewed(AccessDenied):
    """The source refuses what is signed by this machine's clock, which is wrong; it may be set right."""

    retryable = True


class OriginMismatch(AccessDenied):
    """A blob was listed at another server, or another place of it, than the source now asks."""


class SourceUnavailable(LazyfsError):
    """Time-outs, refused connections, DNS, resets, short bodies, 5xx: trying again may help."""

    retryable = True
    exit_code = 5


class SourceUnreachable(SourceUnavailable):
    """There was not even a connection to the host: DNS, refused, no answer, a tunnel or TLS that broke."""


class SourceThrottled(SourceUnavailable):
    """The source asked us to slow down (429, 503); `retry_after_s` when it said for how long."""

    def __init__(self, cause: str, cure: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(cause, cure)
        self.retry_after_s = retry_after_s


class SourceUntrusted(LazyfsError):
    """The server's TLS certificate could not be verified. Trying again cannot help."""

    exit_code = 5


class LocationRefused(AccessDenied):
    """A location was refused (401, 403, an expired signature): locate again, once."""


class LocationLapsed(LocationRefused):
    """A location was refused for credentials that are over, or for the clock: locate until it works."""

    retryable = True


class BlobChanged(LazyfsError):
    """The object is no longer the version that was pinned at mount, or it is gone."""

    errno = errno.ESTALE


class BlobTorn(BlobChanged):
    """An object was written to while all of it came in one stream: what had come may be of two versions."""


class BadResponse(SourceUnavailable):
    """A reply that cannot be what was asked for: wrong range, wrong length, not HTTP."""


class PageTooLong(LazyfsError):
    """A page that goes on for longer than anybody needs to read. Trying again cannot help."""

    exit_code = 5


class DigestMismatch(LazyfsError):
    """A whole file is not what its publisher says it is: its sha256 is another."""


class BlockCorrupt(LazyfsError):
    """A block in the store does not match its checksum: drop it, fetch it again, count it."""

    retryable = True


class BlockGone(BlockCorrupt):
    """The store no longer has the blob: another mount evicted it, or somebody deleted it."""


class BlockUnreadable(BlockCorrupt):
    """The disk does not give a stored block, or not in time; nothing says that the block is wrong."""


class MountpointError(LazyfsError):
    """The mountpoint cannot be used: missing, not a directory, not empty, already a mount."""

    exit_code = 6


class TargetUnusable(LazyfsError):
    """The directory to pull into cannot be used: not writable, full, in use by another pull."""

    exit_code = 6


class FuseUnavailable(LazyfsError):
    """No /dev/fuse, or no permission to mount."""

    exit_code = 7


class CacheUnusable(LazyfsError):
    """The cache directory cannot be used: not writable, full, made by a newer version."""

    exit_code = 8


class CacheFull(CacheUnusable):
    """There is no room in the cache directory, and nothing of ours there that could go."""


class MemoryTooSmall(LazyfsError):
    """The memory limit leaves no room for a mount."""

    exit_code = 9


class BadHeader(LazyfsError):
    """Bytes that are not a safetensors header or a safetensors index."""


class BadManifest(LazyfsError):
    """A snapshot file that is not a manifest."""


class BadIndex(LazyfsError):
    """A page that is not an index of a directory."""


class BadPublication(LazyfsError):
    """A lazyfs.json that is none, is of a newer format, or that the files beside it do not fit."""


class UnfinishedPublication(BadPublication):
    """A lazyfs.json that is not complete yet: somebody publishes there, or has been broken off."""


class NoSuchFile(LazyfsError):
    """A handle that stands for no file of the snapshot."""

    errno = errno.ESTALE


class ReadOnly(LazyfsError):
    """Somebody tried to change the mount."""

    errno = errno.EROFS
