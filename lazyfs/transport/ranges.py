"""One ranged GET into a buffer, decided once for all sources; what a reply means is in `wanted.py`."""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from lazyfs.core.location import Location
from lazyfs.errors import BadResponse
from lazyfs.transport.asking import Asker
from lazyfs.transport.connection import Patience, Reply
from lazyfs.transport.exchange import REDIRECTS, REDIRECTS_MAX, follow
from lazyfs.transport.wanted import OK, Receipt, Wanted, check, confirm
from lazyfs.transport.whole import Wholes

__all__ = ["RangeReader", "Receipt", "Wanted"]

SCRATCH_BYTES = 64 << 10


class RangeReader(Asker):
    """Reads ranges over keep-alive connections of its own; used by one thread at a time.

    Objects of which the server sends no ranges come by `wholes`; without, each range is read out of a reply
    that begins at the start.
    """

    def __init__(self, patience: Patience | None = None, wholes: Wholes | None = None) -> None:
        super().__init__(patience)
        self._wholes = wholes

    def fetch(
        self, location: Location, wanted: Wanted, into: memoryview, landed: Callable[[int], None]
    ) -> Receipt:
        """Read `wanted` from `location` into `into`, or raise.

        `into` is as long as the wanted span; `landed` hears of every piece. What was reported as landed
        stays right even when an error follows.

        Raises:
            LocationRefused: 400, 401, 403: the location may have expired. LocationLapsed: it has.
            BlobChanged: 404, 410, 412, 416, another ETag or another size.
            SourceThrottled: 429, 503.
            SourceUnavailable: everything that may pass: time-outs, resets, short bodies, other 5xx.

        """
        part = wanted.span.size_bytes < wanted.size_bytes
        wholes = self._wholes if part else None
        if wholes is not None and wholes.serves(location, wanted.size_bytes):
            return wholes.fetch(location, wanted, into, landed, self._given_up)
        started = time.monotonic()
        url, headers = urlsplit(location.url), dict(location.headers)
        headers |= {
            "Range": f"bytes={wanted.span.start}-{wanted.span.stop - 1}",
            "Accept-Encoding": "identity",
        }
        for _ in range(REDIRECTS_MAX + 1):
            with self.replied(url, headers) as (connection, reply):
                first_byte_s = time.monotonic() - started
                if reply.status in REDIRECTS and "Location" in reply.headers:
                    url, headers = follow(url, reply, headers)
                    reply.text()
                    continue
                check(reply, connection.host, location, wanted)
                if reply.status == OK and wholes is not None and wholes.open:
                    taken_over = (self, connection, reply)
                    return wholes.fetch(location, wanted, into, landed, self._given_up, taken_over)
                whole = reply.status == OK
                if self._wholes is not None and not whole:
                    self._wholes.part_came(location)
                unsure = whole and location.proven
                told = _all_but_one(landed, len(into)) if unsure else landed
                _receive(reply, connection.host, wanted, into, told)
            if unsure:
                # It may have been written to while it came; see `whole.py`.
                confirm(self.probe(urlsplit(location.url), location.headers), location, wanted.size_bytes)
                landed(len(into))
            return Receipt(first_byte_s, whole_object=whole)
        raise BadResponse(f"{url.hostname} redirects in a circle")

    def _given_up(self) -> bool:
        return self.ended


def _all_but_one(landed: Callable[[int], None], size_bytes: int) -> Callable[[int], None]:
    """Return what tells of all that lands but the last byte."""
    return lambda count: landed(min(count, size_bytes - 1))


def _receive(
    reply: Reply, host: str, wanted: Wanted, into: memoryview, landed: Callable[[int], None]
) -> None:
    """Read the body. Of a whole object, what lies before the range is read over, into the same buffer.

    Without a length only the end shows that the body was as it should be, so nothing has landed before.
    """
    before, after = wanted.span.start, wanted.size_bytes - wanted.span.stop
    if reply.status == OK:
        scratch = into if len(into) >= SCRATCH_BYTES else memoryview(bytearray(SCRATCH_BYTES))
        _read_over(reply, host, before, scratch)
    got = reply.readinto(into, None if reply.length is None else landed)
    if got != len(into):
        raise BadResponse(f"{host} ended the body {len(into) - got} bytes early")
    if reply.length is None:
        if reply.status == OK:
            _read_over(reply, host, after, memoryview(bytearray(SCRATCH_BYTES)))
        reply.expect_end()
        landed(got)


def _read_over(reply: Reply, host: str, count: int, scratch: memoryview) -> None:
    """Receive bytes nobody wants."""
    while count:
        got = reply.readinto(scratch[: min(count, len(scratch))])
        if not got:
            raise BadResponse(f"{host} ended the body {count} bytes early")
        count -= got
