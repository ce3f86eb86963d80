"""The gate: every connection and every file a source leads to goes through it (`core/allowance.py`).

It is one for the whole process. For the bytes of files, and all that the HTTP source asks, what passes
through it is what is really used: the address a socket is about to be connected to, after DNS and after
redirects; the path a descriptor was opened at, after symbolic links. So neither a name that resolves to
something else the second time nor a link that is moved gets by.

What client libraries ask (botocore, the Hub's client) is looked at before it is asked, and the library then
resolves the name once more: a name that answers otherwise within that moment can have such a question sent to
where no source may be. The bytes do not go that way.

Through a proxy it is the proxy that resolves, and decides: only an address in the URL itself is looked at.
"""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from lazyfs.core.allowance import Allowance
from lazyfs.errors import AccessDenied

Resolved = tuple[Any, Any, int, str, tuple[Any, ...]]
"""What `socket.getaddrinfo` returns of an address."""

_open: list[Allowance] = [Allowance()]


def allow(allowance: Allowance) -> None:
    """Say where sources may be, from now on."""
    if allowance.directories is not None:
        tops = tuple(os.path.realpath(top) for top in allowance.directories)
        allowance = replace(allowance, directories=tops)
    _open[0] = allowance


def require_address(host: str, address: str) -> None:
    """Let an address of `host` through.

    Raises:
        AccessDenied: when no source may be there.

    """
    found = _open[0].refused(address)
    if found is not None:
        at = (
            f"{address}, a {found} address" if host == address else f"{host} is {address}, a {found} address:"
        )
        raise AccessDenied(
            f"{at} where no source may be", f"whoever runs this machine can --allow-source {found}"
        )


def passing(host: str, found: list[Resolved]) -> list[Resolved]:
    """Return those of the addresses of `host` that may be connected to.

    Raises:
        AccessDenied: when no source may be at any of them.

    """
    passed = [entry for entry in found if _open[0].refused(str(entry[4][0])) is None]
    if not passed:
        require_address(host, str(found[0][4][0]))
    return passed


def require_literal(host: str) -> None:
    """Let a host through that somebody else resolves: one that is an address is looked at.

    Raises:
        AccessDenied: when no source may be there.

    """
    try:
        require_address(host, host)
    except ValueError:
        if host.rstrip(".").lower().rpartition(".")[2] == "localhost":
            require_address(host, "127.0.0.1")


def require_host(host: str, port: int) -> None:
    """Let a host through that a client library is about to connect to: all its addresses must be good.

    Raises:
        AccessDenied: when no source may be at one of them.

    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # the library will say so
    for entry in found:
        require_address(host, str(entry[4][0]))


def restricts_files() -> bool:
    """Tell whether there are directories a source may not be in."""
    return _open[0].directories is not None


def require_path(path: str) -> None:
    """Let a path through; what it leads to by symbolic links counts.

    Raises:
        AccessDenied: when no source may be there.

    """
    if restricts_files() and not _open[0].holds(os.path.realpath(path)):
        raise _outside(path)


def require_descriptor(fd: int, path: str) -> None:
    """Let an open file through: where it really is counts, whatever links have led there.

    Raises:
        AccessDenied: when no source may be there.

    """
    if restricts_files() and not _open[0].holds(str(Path(f"/proc/self/fd/{fd}").readlink())):
        raise _outside(path)


def _outside(path: str) -> AccessDenied:
    return AccessDenied(
        f"{path} is not where a file:// source may be",
        "whoever runs this machine can --allow-source file:///DIRECTORY/*",
    )
