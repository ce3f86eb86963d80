"""Requests and replies over keep-alive connections, for one thread: made when needed, renewed when stale."""

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import SplitResult, urljoin, urlsplit

from lazyfs.core.origin import same_server
from lazyfs.errors import BadResponse, SourceUnavailable, SourceUntrusted
from lazyfs.transport.connection import Connection, Patience, Reply
from lazyfs.transport.route import tls_context

REDIRECTS_MAX = 5
REDIRECTS = {301, 302, 303, 307, 308}
CONNECTIONS_MOST = 2
"""One to the storage, one to whatever redirects there."""
STALE_S = 1.0
"""A kept connection that fails within so long had been closed by the server: the request is sent again."""


class Exchange:
    """Sends requests; used by one thread at a time, ended by any."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._connections: dict[tuple[str, str], Connection] = {}
        self._tls: ssl.SSLContext | None = None
        self._current: Connection | None = None
        self.ended = False
        self.received_bytes = 0
        """Bytes of bodies, whatever became of them."""

    def end(self) -> None:
        """Have the request that is under way fail now, and every other at once; for other threads."""
        self.ended = True
        current = self._current
        if current is not None:
            current.sever()

    @property
    def unread(self) -> bool:
        """Whether the reply has come further than it was received; for other threads."""
        current = self._current
        return current is not None and current.unread

    @contextmanager
    def replied(
        self, url: SplitResult, headers: Mapping[str, str], method: str = "GET"
    ) -> Iterator[tuple[Connection, Reply]]:
        """Send a request and give its reply; afterwards the connection is kept if the body was read.

        Raises:
            SourceUnreachable: when no connection can be made in time.
            SourceUnavailable: when no proper head comes in time.
            SourceUntrusted: when the server's certificate cannot be verified.

        """
        connection, reply = self._send(url, headers, method)
        try:
            yield connection, reply
        finally:
            if connection in self._connections.values():
                reply.close()
                self.received_bytes += reply.received_bytes
                if not reply.complete or connection.closed:
                    self._close(connection)

    def give_away(self, connection: Connection) -> None:
        """Let go of a connection whose reply somebody else goes on to read, and closes."""
        self._connections = {k: c for k, c in self._connections.items() if c is not connection}
        self._current = None

    def _send(self, url: SplitResult, headers: Mapping[str, str], method: str) -> tuple[Connection, Reply]:
        """Send the request; once more on a new connection when a kept one turns out to be closed."""
        connection, began_s = self._connection(url), time.monotonic()
        reused = connection.used
        try:
            return connection, connection.send(url, headers, method)
        except SourceUnavailable:
            self._close(connection)
            if not reused or time.monotonic() - began_s > STALE_S:
                raise
        connection = self._connection(url)
        try:
            return connection, connection.send(url, headers, method)
        except BaseException:
            self._close(connection)
            raise

    def _connection(self, url: SplitResult) -> Connection:
        """Return the connection to use now."""
        key = (url.scheme, url.netloc)
        connection = self._connections.pop(key, None)
        if connection is None:
            if url.scheme == "https" and self._tls is None:
                self._tls = tls_context()
            while len(self._connections) >= CONNECTIONS_MOST:
                self._close(next(iter(self._connections.values())))
            connection = Connection(url, self._patience, self._tls)
        self._connections[key] = self._current = connection
        # In this order: `end` sets the one, then looks at the other.
        if self.ended:
            raise SourceUnavailable("the request was given up")
        return connection

    def _close(self, connection: Connection) -> None:
        self._connections = {k: c for k, c in self._connections.items() if c is not connection}
        connection.close()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            self._close(connection)


def follow(url: SplitResult, reply: Reply, headers: Mapping[str, str]) -> tuple[SplitResult, dict[str, str]]:
    """Return where a redirect leads and what to send there: no credentials to another host.

    Raises:
        BadResponse: when it leads nowhere.
        SourceUntrusted: when it leads from https to http.

    """
    nowhere = BadResponse(f"{url.hostname} redirects to something that is not a URL")
    try:
        target = urlsplit(urljoin(url.geturl(), reply.headers.get("Location", "")))
        proper = target.scheme in {"http", "https"} and target.hostname and target.port != 0
    except ValueError:  # an address or a port that cannot be
        raise nowhere from None
    if not proper:
        raise nowhere
    if url.scheme == "https" and target.scheme == "http":
        raise SourceUntrusted(
            f"{url.hostname} redirects from https to http", "weights are not read over an unprotected link"
        )
    if not same_host(target, url):
        headers = {k: v for k, v in headers.items() if k.lower() not in {"authorization", "cookie"}}
    return target, dict(headers)


def same_host(one: SplitResult, other: SplitResult) -> bool:
    """Tell whether two URLs are of one server: what may be told to the one may be told to the other."""
    return one[:2] == other[:2] or same_server(one.geturl(), other.geturl())
