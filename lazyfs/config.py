"""Options: one frozen dataclass; names, defaults, environment variables and help come from its fields.

The command line and docs/configuration.md are made from these fields, so there is one place to add an option.
Parts below `mount` receive plain values from here, never the whole of it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lazyfs.core.layout import Layout
from lazyfs.core.plan import Policy
from lazyfs.errors import UsageError
from lazyfs.parsing import (
    parse_address,
    parse_addressing_style,
    parse_allowed,
    parse_block_size,
    parse_budget,
    parse_cache_size,
    parse_connections,
    parse_duration,
    parse_endpoint,
    parse_layout,
    parse_log_format,
    parse_log_level,
    parse_memory,
    parse_policy,
    parse_size,
    parse_user,
)


def default_cache_dir() -> Path:
    """Return `/var/cache/lazyfs` for root, the user's cache directory otherwise.

    Raises:
        UsageError: for a user without a home.

    """
    if os.geteuid() == 0:
        return Path("/var/cache/lazyfs")
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "lazyfs"


def home() -> Path:
    """Return the user's home directory.

    Raises:
        UsageError: when there is none, as for a user id that a container made up.

    """
    try:
        return Path.home()
    except RuntimeError:
        raise UsageError(
            "this user has no home directory", "set HOME, or --cache-dir and --log-file"
        ) from None


@dataclass(frozen=True, slots=True)
class Option:
    """What the command line and the docs know of a field: its default as text, help, and parser."""

    default: str | bool | None
    help: str
    parse: Callable[[str], Any] | None = None
    metavar: str = "TEXT"
    many: bool = False


def _option(
    default: str | bool | None,
    text: str,
    parse: Any = None,
    metavar: str = "TEXT",
    *,
    many: bool = False,
) -> Any:
    value: Any = default
    if many:
        value = ()
    elif parse is not None and isinstance(default, str):
        value = parse(default)
    return field(default=value, metadata={"option": Option(default, text, parse, metavar, many)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to reach a source or a destination; shared by all commands that read or write one."""

    endpoint_url: str | None = _option(
        None,
        "S3 endpoint, for anything that is not AWS. AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL work too.",
        parse_endpoint,
        "URL",
    )
    anonymous: bool = _option(False, "Send no credentials: for public buckets.")
    addressing_style: str | None = _option(
        None,
        "How S3 URLs name the bucket: virtual (bucket.host/key) or path (host/bucket/key). Default: virtual "
        "for AWS, path for every other endpoint.",
        parse_addressing_style,
        "STYLE",
    )
    include: tuple[str, ...] = _option(
        None,
        "Show only names that match, like '*.json'. Can be repeated.",
        metavar="PATTERN",
        many=True,
    )
    exclude: tuple[str, ...] = _option(
        None,
        "Leave out names that match, like 'original/*'. Can be repeated.",
        metavar="PATTERN",
        many=True,
    )
    allow_source: tuple[str, ...] = _option(
        None,
        "Where a source may be: public, private, loopback or link-local addresses, a network like "
        "10.1.0.0/16, a directory like file:///models/*. Can be repeated; nothing else is allowed then but "
        "public addresses. Default: everything but link-local addresses and those that serve cloud metadata.",
        parse_allowed,
        "WHERE",
        many=True,
    )


def _layout() -> Any:
    return _option(
        "flat",
        "What the mount looks like: flat (the files of the source) or hf-cache (HF_HOME/hub, for engines "
        "that are given a model's name; for several sources too).",
        parse_layout,
        "NAME",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(SourceOptions):
    """Everything `lazyfs ls` can be told."""

    layout: Layout = _layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions(SourceOptions):
    """Where the cache is; shared by `mount`, `pull`, `warm` and `bench`."""

    cache_dir: Path | None = _option(
        None,
        "Where blocks are kept; share one per node. Default: /var/cache/lazyfs, or ~/.cache/lazyfs "
        "when not root.",
        Path,
        "DIR",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(CacheOptions):
    """Everything `lazyfs bench` can be told."""

    budget: int = _option(
        "4GB",
        "The most it downloads, in all. A slow link takes less.",
        parse_budget,
        "SIZE",
    )
    seconds: float = _option(
        "1.5",
        "How long each step lasts at most. Longer steps are more exact.",
        parse_duration,
        "TIME",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions(CacheOptions):
    """How bytes are brought, and what is said of it; shared by `mount`, `pull` and `warm`."""

    memory: int | None = _option(
        "auto",
        "Budget for blocks in memory. auto is 384MiB with the default connections and block size, at most a "
        "quarter of the memory limit.",
        parse_memory,
        "SIZE",
    )
    connections: int | None = _option(
        "auto",
        "Requests in flight at once, ahead of readers; each gets a connection. auto starts with 4, has 16 "
        "within a tenth of a second where connections are fast, up to 32 while that makes it faster, and "
        "fewer when the source says it is asked too often.",
        parse_connections,
        "N",
    )
    block_size: int = _option(
        "8MiB", "What one request fetches, and the unit of the cache.", parse_block_size, "SIZE"
    )
    read_deadline: float = _option(
        "5m",
        "How long trouble with the source is retried before a read fails, or a pull gives up. For a reader "
        "that is from when it begins to wait, however much it reads and however often the kernel asks.",
        parse_duration,
        "TIME",
    )
    log_format: str = _option("text", "text (key=value) or json.", parse_log_format, "FORMAT")
    log_level: str = _option("info", "debug, info, warning or error.", parse_log_level, "LEVEL")
    log_file: Path | None = _option(None, "Write the log here instead of to standard error.", Path, "FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions(TransferOptions):
    """Everything `lazyfs pull` can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions(TransferOptions):
    """How large the cache may become; shared by `mount` and `warm`."""

    cache_size: int | None = _option(
        "auto",
        "Budget of the cache directory. auto leaves a tenth of the file system free; 0 keeps nothing.",
        parse_cache_size,
        "SIZE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmOptions(StoreOptions):
    """Everything `lazyfs warm` can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions(StoreOptions):
    """Everything `lazyfs mount` can be told."""

    layout: Layout = _layout()
    policy: Policy = _option(
        "model",
        "What to fetch before it is read: model (everything but the same weights in another format than "
        "safetensors), file (files somebody has read from), demand "
        "(only what lies just ahead of a reader).",
        parse_policy,
        "NAME",
    )
    abort_after: float = _option(
        "2m",
        "How long readers wait while no process serves the mount; then they get errors, and the mount ends.",
        parse_duration,
        "TIME",
    )
    user: str | None = _option(
        None,
        "When started by root: the user that serves the mount, as NAME or UID[:GID]. It must be able to "
        "write the cache (one that is missing is made for it) and to read a file:// source; credentials are "
        "found as root. Default: root, without any capability.",
        parse_user,
        "USER",
    )
    read_ahead: int = _option(
        "8MiB",
        "The kernel's read-ahead on the mount. Setting it needs root, and a sysfs that is not read-only.",
        parse_size,
        "SIZE",
    )
    cache_share: int | None = _option(
        None,
        "The most that the files of this mount may take of the cache; for more of it, files of others never "
        "leave. Default: all of --cache-size. 0 keeps nothing.",
        parse_size,
        "SIZE",
    )
    prove_digests: bool = _option(
        False,
        "Take a file of the cache by its publisher's digest only once this source itself has sent it: for a "
        "cache whose users may not all read the same. lazyfs-mounter does so.",
    )
    allow_other: bool = _option(
        False,
        "Let other users read the mount. Without root this needs user_allow_other in /etc/fuse.conf.",
    )
    http: tuple[str, int] | None = _option(
        None,
        "Serve /metrics, /healthz, /readyz and /status here, like 127.0.0.1:9400.",
        parse_address,
        "ADDR",
    )
    no_http: bool = _option(False, "Serve no HTTP, whatever LAZYFS_HTTP says.")


def options_of(kind: type) -> dict[str, Option]:
    """Return the options of a dataclass of this module, by field name, in order."""
    return {f.name: f.metadata["option"] for f in fields(kind)}


_REVIVED: dict[str, Callable[[Any], Any]] = {
    "cache_dir": Path, "log_file": Path, "policy": Policy, "layout": Layout, "include": tuple,
    "exclude": tuple, "allow_source": tuple, "http": tuple,
}  # fmt: skip
"""What JSON does not give back as it was."""


def to_document(options: MountOptions) -> dict[str, Any]:
    """Return options as what JSON can say; `from_document` gives them back."""
    values = {f.name: getattr(options, f.name) for f in fields(options)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def from_document(document: dict[str, Any]) -> MountOptions:
    """Return the options of a document, which another version may have written.

    What this version does not know is left out, what that one did not know has its default.
    """
    known = {f.name for f in fields(MountOptions)}
    values = {name: value for name, value in document.items() if name in known and value is not None}
    return MountOptions(**{name: _REVIVED.get(name, _as_it_is)(value) for name, value in values.items()})


def _as_it_is(value: Any) -> Any:
    return value


def environment_name(name: str) -> str:
    """Return the environment variable of an option: `cache_dir` -> `LAZYFS_CACHE_DIR`."""
    return f"LAZYFS_{name.upper()}"
