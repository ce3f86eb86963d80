"""One HTTP/1.1 connection: dial, send a GET, read its body straight into a buffer.

urllib3's connection classes do what is delicate and not ours: TCP, TLS with verification, proxies. The body
of a reply with a known length is then received from the socket itself, a piece of up to 1 MiB per system call
(MSG_WAITALL) with the interpreter lock released. Against reading through http.client that took 0.31 cpu
seconds a gigabyte instead of 0.45, and woke the other threads a tenth as often (docs/adr/0005).

Every wait has a bound: `Patience`.
"""

import http.client
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult

import urllib3.exceptions
from urllib3.response import BaseHTTPResponse

from lazyfs.errors import BadResponse, LazyfsError, SourceUnavailable, SourceUnreachable, SourceUntrusted
from lazyfs.transport import gate
from lazyfs.transport.line import PROXY_CURE, Line
from lazyfs.transport.punctual import PlainConnection, TlsConnection
from lazyfs.transport.route import ca_cure, proxy_authorization, proxy_for

FIRST_PIECE_BYTES, PIECE_BYTES = 128 << 10, 1 << 20
"""How much is received between two reports of progress: little at first, for readers on a slow link."""
STALL_BYTES = 64 << 10
"""A server must send so much in `Patience.stall_s`: one that trickles would hold a reader for ever."""
LENGTH_DIGITS_MAX = 19
"""No file is longer; and Python refuses to make numbers of thousands of digits."""
GLANCE_S = 0.1
"""After so long a piece is reported as far as it has come: on a slow link a whole one would take seconds."""
_TROUBLE_CURE = "check that the server runs and can be reached, or try again later"
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}
"""What OpenSSL says when plain HTTP answers; which of them, depends on its version."""
_DRAIN_BYTES = 1 << 20
"""More than http.client's buffer holds in any version of Python."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection waits, in seconds: to connect, for the head of a reply, for more (`STALL_BYTES`).

    Each is for all of it: an address that does not answer, or a head that trickles, does not start it anew.
    """

    connect_s: float = 5.0
    first_byte_s: float = 20.0
    stall_s: float = 15.0


class Reply:
    """The head of a reply; its body is read once, in order, with `readinto`."""

    def __init__(
        self,
        response: BaseHTTPResponse,
        sock: socket.socket,
        host: str,
        stall_s: float,
        *,
        bodiless: bool = False,
    ) -> None:
        self._stall_s = stall_s
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._sock = sock
        self._host = host
        self._early: memoryview | None = None
        self._direct = False
        self.received_bytes = 0
        self._ended = False
        length = response.headers.get("Content-Length", "")
        chunked = "Transfer-Encoding" in response.headers
        proper = length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS_MAX
        self.length = 0 if bodiless else int(length) if proper and not chunked else None

    def readinto(self, into: memoryview, landed: Callable[[int], None] | None = None) -> int:
        """Fill `into` and return its length; less only when the body ended before.

        `landed` is told, after each piece, how many bytes of `into` are there.

        Raises:
            SourceUnavailable: on a stall or a broken connection.

        """
        filled, paced, paced_at_s = 0, 0, time.monotonic()
        with translated(self._host):
            while filled < len(into):
                piece = min(PIECE_BYTES, max(FIRST_PIECE_BYTES, filled))
                try:
                    got = self._receive(into[filled : filled + piece])
                except BlockingIOError:
                    pass  # nothing in `GLANCE_S`
                else:
                    if not got:
                        break
                    filled += got
                    if landed is not None:
                        landed(filled)
                now_s = time.monotonic()
                if filled - paced >= STALL_BYTES:
                    paced, paced_at_s = filled, now_s
                elif now_s - paced_at_s > self._stall_s and filled < len(into):
                    raise SourceUnavailable(
                        f"{self._host} sent {filled - paced} bytes in {self._stall_s:.0f} s"
                    )
        return filled

    def _receive(self, into: memoryview) -> int:
        """Receive at least one byte; 0 at the end of the body."""
        if self._early is None:
            # What came with the head waits in http.client's buffer. All of it is taken out, however little is
            # wanted now: what stayed there would be missing from what the socket gives next.
            self._early = memoryview(self._response.read1(_DRAIN_BYTES, decode_content=False))
        if self._early or self.length is None:
            # Chunked bodies are decoded by http.client to their end.
            early = self._early or memoryview(self._response.read1(_DRAIN_BYTES, decode_content=False))
            got = min(len(early), len(into))
            into[:got] = early[:got]
            self._early = early[got:]
        elif isinstance(self._sock, ssl.SSLSocket):
            got = self._sock.recv_into(into)
        else:
            if not self._direct:
                # MSG_WAITALL needs a blocking socket; its time-out is then the kernel's (SO_RCVTIMEO).
                self._direct = True
                self._sock.settimeout(None)
            got = self._sock.recv_into(into, len(into), socket.MSG_WAITALL)
        self.received_bytes += got
        self._ended = not got
        return got

    @property
    def complete(self) -> bool:
        """Whether the body was read to its end, so that the connection is good for another request."""
        return self.received_bytes == self.length or (self.length is None and self._ended)

    def expect_end(self) -> None:
        """Check that a body of unknown length has ended.

        Raises:
            BadResponse: when it goes on, or ends otherwise than it should.

        """
        if self.length is not None:
            return
        with translated(self._host):
            more = self._receive(memoryview(bytearray(1)))
        if more:
            raise BadResponse(f"{self._host} sent more than was asked for")

    def text(self, limit_bytes: int = 4096) -> str:
        """Return the start of the body, for error messages."""
        buffer = bytearray(min(limit_bytes, limit_bytes if self.length is None else self.length))
        return buffer[: self.readinto(memoryview(buffer))].decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of the reply; the connection is free for the next request if it is `complete`."""
        self._response.close()


class Connection:
    """A keep-alive connection to the origin (scheme, host, port) of a URL."""

    def __init__(self, url: SplitResult, patience: Patience, tls: ssl.SSLContext | None) -> None:
        self.host = url.netloc.rpartition("@")[2]
        self._patience = patience
        self._absolute = False
        self._proxy_headers: dict[str, str] = {}
        self._line = Line()
        self._connection = self._prepare(url, tls)
        self._connection.line = self._line
        self.used = False

    def _prepare(self, url: SplitResult, tls: ssl.SSLContext | None) -> PlainConnection | TlsConnection:
        """Make the unconnected connection: direct, through a forwarding proxy, or through a tunnel."""
        https, host = url.scheme == "https", url.hostname or ""
        port = url.port or (443 if https else 80)
        proxy = proxy_for(url)
        peer, peer_port = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
        self._line.gated = proxy is None
        if proxy is not None:
            gate.require_literal(host)
        timeout = self._patience.connect_s
        connection = (
            TlsConnection(peer, peer_port, timeout=timeout, ssl_context=tls)
            if https
            else PlainConnection(peer, peer_port, timeout=timeout)
        )
        if proxy is not None:
            self._proxy_headers = proxy_authorization(proxy)
            self._absolute = not https
            if https:
                connection.set_tunnel(host, port, self._proxy_headers)
        return connection

    def send(self, url: SplitResult, headers: Mapping[str, str], method: str = "GET") -> Reply:
        """Send a request for `url` and return the head of the reply.

        Raises:
            SourceUnreachable: when no connection can be made in time.
            SourceUnavailable: when no proper head comes in time.
            SourceUntrusted: when the server's certificate cannot be verified.

        """
        target = url.geturl() if self._absolute else url._replace(scheme="", netloc="").geturl() or "/"
        sent = {**headers, **(self._proxy_headers if self._absolute else {})}
        if self._connection.sock is None:
            self._connect()
        self.used = True
        with translated(self.host):
            # http.client forgets the socket when the server says "Connection: close"; the reply needs it.
            sock = self._connection.sock
            self._connection.timeout = self._patience.first_byte_s
            self._connection.request(
                method, target, headers=sent, preload_content=False, decode_content=False
            )
            response = self._connection.getresponse()
            _require_framing(response, self.host)
            if sock.fileno() >= 0:  # or there is no body, and no further request, so it was closed
                sock.settimeout(self._patience.stall_s)
        return Reply(response, sock, self.host, self._patience.stall_s, bodiless=method == "HEAD")

    def _connect(self) -> None:
        self._connection.timeout = self._patience.connect_s
        try:
            with translated(self.host):
                self._connection.connect()
                limit = struct.pack("ll", 0, int(GLANCE_S * 1e6))
                self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        except SourceUnavailable as error:
            raise SourceUnreachable(error.cause, error.cure) from None

    @property
    def closed(self) -> bool:
        """Whether the next request needs a new socket."""
        return self._connection.sock is None

    @property
    def unread(self) -> bool:
        """Whether something has come that nobody has received yet; for other threads."""
        return self._line.unread

    def sever(self) -> None:
        """Have what the connection is used for fail now; for other threads, and for good."""
        self._line.sever()

    def close(self) -> None:
        """Close the socket, if there is one."""
        self._connection.close()
        self._line.close()


def _require_framing(response: BaseHTTPResponse, host: str) -> None:
    """Refuse a body in a framing that http.client would hand out undecoded, as bytes of the object."""
    framing = response.headers.get("Transfer-Encoding", "chunked")
    if framing.lower() != "chunked":
        response.close()
        raise BadResponse(f"{host} sent a body with the transfer encoding {framing[:40]!r}")


@contextmanager
def translated(host: str) -> Iterator[None]:
    """Turn what sockets, TLS and HTTP raise into our errors, once."""
    try:
        yield
    except LazyfsError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise SourceUntrusted(
            f"the TLS certificate of {host} could not be verified: {error.verify_message}",
            ca_cure("set SSL_CERT_FILE (or AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE) to the CA that signed it"),
        ) from None
    except urllib3.exceptions.ProxyError as error:
        raise SourceUnavailable(
            f"cannot connect to {host} through the proxy: {_reason(error)}", PROXY_CURE
        ) from None
    except (BlockingIOError, TimeoutError, urllib3.exceptions.TimeoutError):
        raise SourceUnavailable(f"no answer from {host} in time", _TROUBLE_CURE) from None
    except ssl.SSLError as error:
        raise _tls_trouble(host, error) from None
    except OSError as error:
        raise SourceUnavailable(f"connection to {host} failed: {_reason(error)}", _TROUBLE_CURE) from None
    except (http.client.HTTPException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        # The last from a redirect to what cannot be a host or a path.
        raise BadResponse(f"{host} sent something that is not a proper reply: {_reason(error)}") from None


def _tls_trouble(host: str, error: ssl.SSLError) -> SourceUnavailable:
    reason = (error.reason or type(error).__name__).replace("_", " ").lower()
    if error.reason in _NO_TLS:
        return SourceUnavailable(
            f"{host} does not speak TLS ({reason})", "is it an http:// address, or the wrong port?"
        )
    return SourceUnavailable(
        f"TLS with {host} failed: {reason}", "check the server's versions of TLS, and what is in between"
    )


def _reason(error: BaseException) -> str:
    """Return what went wrong without addresses of Python objects."""
    cause = error.__cause__ or error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
