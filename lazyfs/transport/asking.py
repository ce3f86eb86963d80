"""Questions about files, for sources: a page to read, or what a server says of a file before it is read.

They go the same way as the bytes: the same connections, proxies, certificates and redirects.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

from lazyfs.errors import BadResponse, PageTooLong
from lazyfs.transport.connection import PIECE_BYTES, Reply
from lazyfs.transport.exchange import REDIRECTS, REDIRECTS_MAX, Exchange, follow, same_host

OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
_NO_HEAD = {400, 403, 405, 501}
"""What servers say to a HEAD that would answer a GET: not written for it, or not signed for it."""
_TOTAL = re.compile(r"bytes (?:0-0|\*)/(\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: from which URL, after redirects, and what credentials would still be sent there."""

    status: int
    url: SplitResult
    headers: Mapping[str, str]
    """By names in any case."""
    sent: Mapping[str, str]
    body: bytes = b""
    ranged: bool = False
    """Whether a byte was asked for, so that the status says what the server does with ranges."""

    @property
    def size_bytes(self) -> int | None:
        """How long the file is; None when the server does not say."""
        total = _TOTAL.fullmatch(self.headers.get("Content-Range", "").strip())
        if total is not None:
            return int(total[1])
        length = self.headers.get("Content-Length", "")
        proper = self.status == OK and length.isascii() and length.isdigit() and len(length) <= 19  # noqa: PLR2004
        return int(length) if proper and "Transfer-Encoding" not in self.headers else None

    @property
    def ranges(self) -> bool | None:
        """Whether ranges are served; None when that cannot be told."""
        if self.ranged:
            return self.status != OK
        said = self.headers.get("Accept-Ranges", "").strip().lower()
        return {"bytes": True, "none": False}.get(said)


class Asker(Exchange):
    """Asks; used by one thread at a time."""

    def page(self, url: SplitResult, headers: Mapping[str, str], limit_bytes: int) -> Answer:
        """Return a page with its body.

        Raises:
            PageTooLong: when it is longer than `limit_bytes`.
            BadResponse: when it redirects in a circle.
            LazyfsError: see `Exchange.replied` and `follow`.

        """
        return self._ask(url, headers, "GET", limit_bytes)

    def probe(self, url: SplitResult, headers: Mapping[str, str]) -> Answer:
        """Return what the server says of a file: by HEAD, or by a GET of one byte where that does not do.

        What another host was redirected to is often signed for GET only, so that is what it is asked.

        Raises:
            LazyfsError: see `page`.

        """
        answer = self._ask(url, headers, "HEAD")
        away = answer.status in REDIRECTS
        unsaid = answer.status == OK and answer.size_bytes is None
        if not away and answer.status not in _NO_HEAD and not unsaid:
            return answer
        return self.byte(answer.url if away else url, answer.sent if away else headers)

    def byte(self, url: SplitResult, headers: Mapping[str, str]) -> Answer:
        """Return what the server says to a GET of the first byte; where there is none, to a GET of nothing.

        A file without bytes has no first one: many servers refuse that (416), and say no more of it.

        Raises:
            LazyfsError: see `page`.

        """
        answer = self._ask(url, {**headers, "Range": "bytes=0-0"}, "GET")
        if answer.status != UNSATISFIABLE or answer.size_bytes:
            return answer
        return self._ask(url, headers, "GET")

    def _ask(
        self, url: SplitResult, headers: Mapping[str, str], method: str, limit_bytes: int | None = None
    ) -> Answer:
        """Ask; a HEAD is not taken to another host: the answer is then where that would have led."""
        sent: Mapping[str, str] = {**headers, "Accept-Encoding": "identity"}
        for _ in range(REDIRECTS_MAX + 1):
            with self.replied(url, sent, method) as (connection, reply):
                ranged = "Range" in sent
                if reply.status not in REDIRECTS:
                    body = b""
                    if reply.status == OK and limit_bytes is not None:
                        body = _body(reply, connection.host, limit_bytes)
                    elif reply.status != OK:
                        reply.text()  # it is short, and then the connection can be kept
                    return Answer(reply.status, url, reply.headers, headers, body, ranged)
                target, sent = follow(url, reply, sent)
                headers, leaves = _without_range(sent), not same_host(target, url)
                url = target
                if method == "HEAD" and leaves:
                    return Answer(reply.status, url, reply.headers, headers)
                reply.text()
        raise BadResponse(f"{url.hostname} redirects in a circle")


def _body(reply: Reply, host: str, limit_bytes: int) -> bytes:
    """Return a body, decoded if the server has compressed it although it was asked not to."""
    content = bytearray()
    piece = memoryview(bytearray(min(PIECE_BYTES, limit_bytes + 1)))
    # Past its length there is the next reply, or nothing.
    while not reply.complete and (got := reply.readinto(piece[: _left(reply, len(content))])):
        content += piece[:got]
        if len(content) > limit_bytes:
            raise _too_long(host, limit_bytes)
    if not reply.complete:
        raise BadResponse(f"{host} ended a page early")
    coding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if coding == "identity":
        return bytes(content)
    if coding not in {"gzip", "x-gzip"}:
        raise BadResponse(f"{host} compresses a page though it was asked not to ({coding[:20]!r})")
    return _inflated(bytes(content), host, limit_bytes)


def _inflated(content: bytes, host: str, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        page = inflater.decompress(content, limit_bytes)
    except zlib.error:
        raise BadResponse(f"{host} sent a page that is not gzip as it says") from None
    if not inflater.eof and len(page) == limit_bytes:
        raise _too_long(host, limit_bytes)
    if not inflater.eof:
        raise BadResponse(f"{host} sent a compressed page that ends early")
    return page


def _too_long(host: str, limit_bytes: int) -> PageTooLong:
    return PageTooLong(f"{host} sent a page of more than {limit_bytes} bytes", "check the address")


def _left(reply: Reply, received_bytes: int) -> int:
    return PIECE_BYTES if reply.length is None else reply.length - received_bytes


def _without_range(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in {"Range", "Accept-Encoding"}}
