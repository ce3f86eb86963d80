"""A small HTTP server that does what it is told, request by request, and remembers what it was asked.

A `Script` gives, for the n-th request of a path, a `Behaviour`; after its end (and without one) the server is
well-behaved: ranges, If-Match, ETag, keep-alive.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from lazyfs.demo.seaweed import free_ports

ETAG = '"v1"'


class Content(Protocol):
    """What can be served: `bytes`, or something that makes its bytes when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Behaviour:
    """How one reply departs from the right one. Byte counts are of the body."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    body: bytes | None = None
    delay_s: float = 0.0
    cut_after: int | None = None
    """Close the connection after so many bytes of the body, as if all were well."""
    reset_after: int | None = None
    """Reset the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Send so many bytes of the body, then nothing more until the client goes away."""
    trickle_s: float | None = None
    """Send the body in pieces of `trickle_bytes`, with so long between them."""
    trickle_bytes: int = 1
    shift: int = 0
    """Serve the range that begins so many bytes later, and say so."""
    head_trickle_s: float | None = None
    """Send the head byte by byte, with so long between them."""
    extra: bytes = b""
    """Sent after the body, beyond its length."""
    ignore_range: bool = False
    chunked: bool = False
    close: bool = False
    """Say `Connection: close`, and do."""
    raw: bytes | None = None
    """Send just this, whatever was asked; with `stall_after`, then nothing more."""
    down_s: float | None = None
    """Reset this connection and all others, and refuse new ones for so long."""


GOOD = Behaviour()


@dataclass(frozen=True)
class Asked:
    """A request the server got."""

    path: str
    headers: dict[str, str]
    connection: int
    method: str = "GET"

    @property
    def span(self) -> tuple[int, int] | None:
        """The range asked for, half-open."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(found[1]), int(found[2]) + 1) if found else None


class FaultServer:
    """Serves `content` at any path until closed."""

    def __init__(
        self,
        content: bytes = b"",
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        serve: Callable[[socket.socket, int], None] | None = None,
    ) -> None:
        """`serve` is given each connection and its number, in a thread, instead of HTTP being spoken."""
        self.content = content
        self.files: dict[str, Content] = {}
        self.etag = ETAG
        self.script: list[Behaviour] = []
        self.behave: Callable[[Asked], Behaviour] | None = None
        self.asked: list[Asked] = []
        self.sent_bytes = 0
        """Bytes of replies given to the kernel to send."""
        self._tls = tls
        self._serve = serve or self._speak
        self._lock = threading.Lock()
        self._connections = 0
        self._clients: set[socket.socket] = set()
        # A port that was bound by its number stays ours while we do not listen (`go_down`).
        self.port = port or free_ports(1)[0]
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._closed = threading.Event()
        self._listening = threading.Event()
        self._listening.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str = "/blob", host: str = "127.0.0.1") -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{host}:{self.port}{path}"

    @property
    def connection_count(self) -> int:
        return self._connections

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._clients)

    @property
    def gets(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET"]

    def spans(self) -> list[tuple[int, int] | None]:
        return [asked.span for asked in self.gets]

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections += 1
            threading.Thread(target=self._serve, args=(client, self._connections), daemon=True).start()

    def _speak(self, client: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            with self._lock:
                self._clients.add(client)
            with client, client.makefile("rb") as lines:
                while (asked := self._read(lines, number)) is not None:
                    if not self._answer(client, asked):
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self._clients.discard(client)

    def _read(self, lines, number: int) -> Asked | None:
        first = lines.readline().decode("latin-1").split()
        if len(first) < 2:
            return None
        headers = {}
        while (line := lines.readline().decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Asked(first[1], headers, number, first[0])

    def _answer(self, client: socket.socket, asked: Asked) -> bool:
        """Send one reply; return whether the connection goes on."""
        how = self._decide(asked)
        if how.delay_s:
            self._closed.wait(how.delay_s)
        if how.down_s is not None:
            self.go_down(how.down_s)
            return False
        if how.raw is not None:
            client.sendall(how.raw)
            if how.stall_after is not None:
                self._stall(client)
            elif how.reset_after is not None:
                self._reset(client)
            return False
        status, headers, body = self._reply(asked, how)
        head = (
            f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        )
        step, pause_s = (len(head), 0.0) if how.head_trickle_s is None else (1, how.head_trickle_s)
        self._trickle(client, head.encode("latin-1"), step, pause_s)
        if asked.method == "HEAD":
            return not how.close
        for limit, end in (
            (how.cut_after, self._close),
            (how.reset_after, self._reset),
            (how.stall_after, self._stall),
        ):
            if limit is not None:
                self._send(client, body[:limit])
                end(client)
                return False
        if how.trickle_s is not None:
            self._trickle(client, body, how.trickle_bytes, how.trickle_s)
        elif how.chunked:
            self._send_chunked(client, body)
        else:
            self._send(client, body + how.extra)
        return not how.close

    def _decide(self, asked: Asked) -> Behaviour:
        with self._lock:
            self.asked.append(asked)
            if self.behave is not None:
                return self.behave(asked)
            return self.script.pop(0) if self.script else GOOD

    def _trickle(self, client: socket.socket, content: bytes, step: int, pause_s: float) -> None:
        for place in range(0, len(content), step):
            self._send(client, content[place : place + step])
            self._closed.wait(pause_s)

    def _send(self, client: socket.socket, body: bytes) -> None:
        rest = memoryview(body)
        while rest:
            sent = client.send(rest[: 64 << 10])
            rest = rest[sent:]
            with self._lock:
                self.sent_bytes += sent

    def _reply(self, asked: Asked, how: Behaviour) -> tuple[int, dict[str, str], bytes]:
        content = self.files.get(asked.path.partition("?")[0], self.content)
        headers = {"ETag": self.etag, "Accept-Ranges": "bytes"}
        match = asked.headers.get("if-match")
        if match is not None and match != self.etag:
            status, body = 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        elif asked.span is None or how.ignore_range:
            status, body = 200, content[:]
        else:
            start, stop = asked.span[0] + how.shift, asked.span[1] + how.shift
            status, body = 206, content[start:stop]
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        if how.status is not None:
            status = how.status
            if status >= 300:
                body = b""
                headers.pop("Content-Range", None)
        body = how.body if how.body is not None else body
        headers["Content-Length"] = str(len(body))
        if how.chunked:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
        if how.close:
            headers["Connection"] = "close"
        headers |= how.headers
        return status, {k: v for k, v in headers.items() if k not in how.without}, body

    def _send_chunked(self, client: socket.socket, body: bytes) -> None:
        for start in range(0, len(body), 1000):
            chunk = body[start : start + 1000]
            self._send(client, f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        client.sendall(b"0\r\n\r\n")

    @staticmethod
    def _close(client: socket.socket) -> None:
        client.shutdown(socket.SHUT_WR)

    @staticmethod
    def _reset(client: socket.socket) -> None:
        time.sleep(0.05)  # let what was sent arrive: a reset throws away what is still on its way
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _stall(self, client: socket.socket) -> None:
        client.settimeout(30)
        client.recv(1)

    def drop_connections(self) -> None:
        """Close every connection, as a server does with idle ones."""
        with self._lock:
            for client in self._clients:
                with suppress(OSError):  # it went away by itself
                    client.shutdown(socket.SHUT_RDWR)

    def go_down(self, seconds: float) -> None:
        """Close every connection and refuse new ones for so long."""
        with self._lock:
            if not self._listening.is_set():
                return
            self._listening.clear()
        self._server.shutdown(socket.SHUT_RD)  # no longer listening, still bound
        self.drop_connections()
        threading.Thread(target=self._come_back, args=(seconds,), daemon=True).start()

    def _come_back(self, seconds: float) -> None:
        if not self._closed.wait(seconds):
            self._server.listen(128)
            self._listening.set()
            self._accept()

    def wait_until_up(self) -> None:
        """Wait until connections are accepted again."""
        assert self._listening.wait(60)

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        # Closing alone would leave the thread in accept() to take one more.
        with suppress(OSError):  # it is down
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop_connections()
