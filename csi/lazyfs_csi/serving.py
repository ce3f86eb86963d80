"""A gRPC server on a socket of a directory that others own, too."""

import os
import socket
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from pathlib import Path

import grpc

from lazyfs.errors import UsageError
from lazyfs_csi.answers import Answers

THREADS = 48
"""Publishing waits for a source, and a node may start dozens of pods at once; the others are quick."""


def path_of(endpoint: str) -> Path:
    """Return the path of a `unix://` endpoint.

    Raises:
        UsageError: when it is none.

    """
    path = endpoint.removeprefix("unix:").removeprefix("//")
    if not endpoint.startswith("unix:") or not path.startswith("/"):
        raise UsageError(f"{endpoint} is not a socket", "write it like unix:///csi/csi.sock")
    return Path(path)


def serve(endpoint: str, register: Callable[[grpc.Server], None], threads: int = THREADS) -> grpc.Server:
    """Return a server at `endpoint` that has begun; `register` says what it serves.

    Raises:
        UsageError: when it cannot be served there.

    """
    path = path_of(endpoint)
    _clear(path)
    pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="call")
    server = grpc.server(pool, interceptors=[Answers()], options=[("grpc.so_reuseport", 0)])
    register(server)
    before = os.umask(0o177)  # made so that only its owner can connect
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError:
        raise UsageError(
            f"cannot listen at {path}", "does its directory exist, and may it be written?"
        ) from None
    finally:
        os.umask(before)
    server.start()
    return server


def _clear(path: Path) -> None:
    """Take away the socket of one that is gone."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
