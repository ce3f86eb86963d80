"""What the values of options are, read from text: sizes, durations, addresses, names.

One function a kind; each returns the value in the unit its docstring names, or says what is wrong and how to
write it.
"""

import re

from lazyfs.core.allowance import allowance
from lazyfs.core.blob import PAGE_BYTES
from lazyfs.core.layout import Layout
from lazyfs.core.plan import Policy
from lazyfs.errors import UsageError

_UNITS = {"": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("", 1000), ("B", 1000), ("i", 1024), ("iB", 1024))
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

BLOCK_BYTES_MIN = 256 << 10
BLOCK_BYTES_MAX = 64 << 20
MEMORY_BYTES_MIN = 64 << 20
CONNECTIONS_MAX = 256
BUDGET_BYTES_MIN = 16_000_000


def parse_size(text: str) -> int:
    """Return bytes from `512MiB`, `100GB`, `4096`; `M` and `MB` are decimal, `Mi` and `MiB` binary.

    Raises:
        UsageError: when it is not a size.

    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{text!r} is not a size", "write it like 512MiB, 100GB or 4096")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_duration(text: str) -> float:
    """Return seconds from `300`, `5m`, `1.5h`, `250ms`.

    Raises:
        UsageError: when it is not a duration above zero.

    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)", text.strip())
    if match is None or match[2] not in _SECONDS or not float(match[1]):
        raise UsageError(f"{text!r} is not a duration", "write it like 300, 5m or 250ms")
    return float(match[1]) * _SECONDS[match[2]]


def parse_block_size(text: str) -> int:
    """Return a block size in bytes: a multiple of 4 KiB from 256 KiB to 64 MiB.

    Raises:
        UsageError: when it is anything else.

    """
    size = parse_size(text)
    if size % PAGE_BYTES or not BLOCK_BYTES_MIN <= size <= BLOCK_BYTES_MAX:
        raise UsageError(
            f"--block-size {text} is not a multiple of 4KiB from 256KiB to 64MiB",
            "8MiB is the default; 16MiB suits links over 25 Gbit/s",
        )
    return size


def parse_memory(text: str) -> int | None:
    """Return the memory budget in bytes; None for `auto`.

    Raises:
        UsageError: when it is not a size, or below 64 MiB.

    """
    if text == "auto":
        return None
    size = parse_size(text)
    if size < MEMORY_BYTES_MIN:
        raise UsageError(f"--memory {text} is too little", "give at least 64MiB, better 512MiB")
    return size


def parse_cache_size(text: str) -> int | None:
    """Return the cache budget in bytes, 0 for no cache; None for `auto`.

    Raises:
        UsageError: when it is not a size.

    """
    return None if text == "auto" else parse_size(text)


def parse_connections(text: str) -> int | None:
    """Return how many connections to use; None for `auto`.

    Raises:
        UsageError: when it is not a number from 1 to 256.

    """
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= CONNECTIONS_MAX:
        raise UsageError(
            f"--connections {text} is not a number from 1 to {CONNECTIONS_MAX}", "16 suits 10 Gbit/s from S3"
        )
    return int(text)


def parse_budget(text: str) -> int:
    """Return how many bytes a bench may download.

    Raises:
        UsageError: when it is not a size, or below 16 MB.

    """
    size = parse_size(text)
    if size < BUDGET_BYTES_MIN:
        raise UsageError(f"--budget {text} is too little to measure with", "give at least 16MB, better 4GB")
    return size


def parse_policy(text: str) -> Policy:
    """Return the warm-up policy.

    Raises:
        UsageError: when there is none of that name.

    """
    return Policy(_one_of("--policy", text, tuple(Policy)))


def parse_layout(text: str) -> Layout:
    """Return the layout of a mount.

    Raises:
        UsageError: when there is none of that name.

    """
    return Layout(_one_of("--layout", text, tuple(Layout)))


def parse_addressing_style(text: str) -> str:
    """Return `path` or `virtual`.

    Raises:
        UsageError: when it is neither.

    """
    return _one_of("--addressing-style", text, ("path", "virtual"))


def parse_allowed(text: str) -> str:
    """Return what says where a source may be, as it is.

    Raises:
        UsageError: when it means nothing.

    """
    allowance((text,))
    return text


def parse_log_format(text: str) -> str:
    """Return `text` or `json`.

    Raises:
        UsageError: when it is neither.

    """
    return _one_of("--log-format", text, ("text", "json"))


def parse_log_level(text: str) -> str:
    """Return a log level in capitals, as `logging` wants it.

    Raises:
        UsageError: when there is none of that name.

    """
    return _one_of("--log-level", text.lower(), ("debug", "info", "warning", "error")).upper()


def parse_user(text: str) -> str:
    """Return a user's name, or `UID` or `UID:GID` in digits.

    Raises:
        UsageError: when it is none of these.

    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*\$?|[0-9]+(:[0-9]+)?", text):
        raise UsageError(f"--user {text} is not a user", "write it like nobody, 65534 or 1000:1000")
    return text


def _one_of(option: str, text: str, names: tuple[str, ...]) -> str:
    if text not in names:
        raise UsageError(f"there is no {option} {text}", f"choose one of {', '.join(names)}")
    return text


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port from `127.0.0.1:9400`, `:9400` (every interface) or `[::1]:9400`.

    Raises:
        UsageError: when it is not an address.

    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
        raise UsageError(f"--http {text} is not an address", "write it like 127.0.0.1:9400")
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_endpoint(text: str) -> str:
    """Return an endpoint URL without its trailing slash.

    Raises:
        UsageError: when it is not an http or https URL.

    """
    if not re.fullmatch(r"https?://[^/?#\s@]+/?", text):
        raise UsageError(
            f"--endpoint-url {text.rpartition('@')[2]} is not a URL",
            "write it like https://minio.example.com:9000, without path or credentials",
        )
    return text.rstrip("/")
