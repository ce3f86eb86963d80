"""A connection that another thread may sever, whatever its own is doing: dialling, TLS, waiting, reading."""

import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from urllib3.util.connection import allowed_gai_family

from lazyfs.errors import SourceUnreachable
from lazyfs.transport import gate

LEAST_S = 1.5
"""An address of several gets so long at least: the second SYN goes out after 1 s."""
PROXY_CURE = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"


class Line:
    """Dials, and keeps a second descriptor of the socket, by which it can be shut down.

    The socket itself is not good for that: TLS takes it away while it shakes hands, and `SSLSocket.shutdown`
    would let the thread that reads go on without TLS.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._severed = False
        self.gated = True
        """Whether what is dialled is what a source named; a proxy is what the operator named."""

    def dial(
        self, host: str, port: int, within_s: float, options: Sequence[tuple[Any, ...]]
    ) -> socket.socket:
        """Return a socket that is connected to one of the host's addresses, within so long in all.

        Raises:
            SourceUnreachable: when the host is not known, or none of its addresses answers.
            AccessDenied: when all of them are where no source may be.

        """
        try:
            found = socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise self._unreachable("cannot resolve", host, "check the name, and DNS") from None
        if self.gated:
            found = gate.passing(host, found)
        end_s, reason = time.monotonic() + within_s, "no answer in time"
        for place, (family, kind, protocol, _, address) in enumerate(found):
            left_s = end_s - time.monotonic()
            if left_s <= 0 or self._severed:
                break
            sock = socket.socket(family, kind, protocol)
            try:
                self._hold(sock)
                for option in options:
                    sock.setsockopt(*option)
                sock.settimeout(min(left_s, max(LEAST_S, left_s / (len(found) - place))))
                sock.connect(address)
            except OSError as error:
                sock.close()
                reason = error.strerror or reason
            else:
                return sock
        cure = "check the address, that the server runs, and that no firewall is in between"
        raise self._unreachable("cannot connect to", f"{host}:{port}: {reason}", cure)

    def _unreachable(self, what: str, host: str, cure: str) -> SourceUnreachable:
        if self.gated:
            return SourceUnreachable(f"{what} {host}", cure)
        return SourceUnreachable(f"{what} the proxy {host}", PROXY_CURE)

    def _hold(self, sock: socket.socket) -> None:
        handle = sock.dup()
        with self._lock:
            before, self._handle = self._handle, handle
        if before is not None:
            before.close()

    def sever(self) -> None:
        """End whatever the connection is used for, now and for good; for other threads."""
        with self._lock:
            self._severed = True
            if self._handle is not None:
                with suppress(OSError):  # it is not connected yet, or no longer
                    self._handle.shutdown(socket.SHUT_RDWR)

    @property
    def unread(self) -> bool:
        """Whether something has come that nobody has received yet; for other threads."""
        with self._lock:
            if self._handle is None:
                return False
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            return any(event & select.POLLIN for _, event in poll.poll(0))

    def close(self) -> None:
        """Let go of the second descriptor: the connection ends with the first."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None
