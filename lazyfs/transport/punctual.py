"""urllib3's connections, but dialled by a `Line`, and with replies whose heads must be in time as a whole."""

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from lazyfs.transport.line import Line

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _Stream(io.RawIOBase):
    """What comes over a socket, as its time-out allows: for all of a head, not for each byte of it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pieces = sock.makefile("rb", buffering=0)
        limit_s = sock.gettimeout()
        self.end_s = None if limit_s is None else time.monotonic() + limit_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        if self.end_s is not None:
            # Zero would be "do not wait", and another error.
            self._sock.settimeout(max(0.001, self.end_s - time.monotonic()))
        return self._pieces.readinto(buffer)

    def close(self) -> None:
        self._pieces.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A reply whose head must be here in time as a whole."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._stream = _Stream(sock)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        super().begin()
        self._stream.end_s = None


class _Dialled:
    """What our connections do otherwise than urllib3's: they are dialled by a `Line`, and punctual."""

    line: Line
    response_class = _Response

    def _new_conn(self: Any) -> socket.socket:
        sock: socket.socket = self.line.dial(self.host, self.port, self.timeout, self.socket_options)
        return sock


class PlainConnection(_Dialled, HTTPConnection):  # type: ignore[misc]
    """Over TCP."""


class TlsConnection(_Dialled, HTTPSConnection):  # type: ignore[misc]
    """Over TLS."""
