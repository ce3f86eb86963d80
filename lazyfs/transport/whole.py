"""Objects whose server sends all of them whatever range is asked for: fetched once, whole, into a file.

`python -m http.server` knows no ranges, some registries forget them. To read each block from such a reply
from its start would bring the object as often as it has blocks. So one GET is read to its end by a thread of
its own, into a file that has no name and goes with its descriptor; blocks are read from there as soon as they
have come, and those in the middle wait for what lies before them. What is read in order comes at the speed of
the link.

The bytes are those of the pinned version, or an error, as everywhere: `wanted.check` looks at the head of the
reply, and at its length. That says nothing about a file that is written to while it is sent, so when all has
come the server is asked once more, and nobody gets the last byte before. When the stream breaks, who waits
gets the error; whoever comes next begins another one, and what had come before stays, for it is of the same
version.

A disk without room for such a file is no reader's trouble: for a while each part is read out of a reply of
its own then, which is slow, and right.

Bounds: so many streams at once; and on the disk, at most as much again as the objects themselves. A file goes
a while after all of it has been taken, or when nobody has taken anything for long.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import BadResponse, CacheUnusable, LazyfsError, SourceUnavailable
from lazyfs.transport.asking import Asker
from lazyfs.transport.connection import Connection, Patience, Reply
from lazyfs.transport.exchange import REDIRECTS, REDIRECTS_MAX, Exchange, follow
from lazyfs.transport.spool import LOOK_S, Whole, read_out, receive
from lazyfs.transport.wanted import Receipt, Wanted, check, confirm

log = logging.getLogger(__name__)

STREAMS_MOST = 8
"""So many objects are fetched at once; a reader of another one waits for one of them to be complete."""

NO_ROOM_S = 30.0
"""After a file did not fit on the disk, how long none is tried."""

Key = tuple[str, str | None, str | None, int]


@dataclass(frozen=True, slots=True)
class WholesStatistics:
    """What is kept of objects that come whole."""

    urls: tuple[str, ...]
    """Where those are that are kept, in part or in full."""


class Wholes:
    """All of them, of all lanes. Any thread may call."""

    def __init__(self, directory: Path | None = None, patience: Patience | None = None) -> None:
        self._directory = directory
        self._place = directory or tempfile.gettempdir()
        self._patience = patience
        self._lock = threading.Lock()
        self._known: dict[Key, Whole] = {}
        self._streams = threading.BoundedSemaphore(STREAMS_MOST)
        self._ends: set[Callable[[], None]] = set()
        """What has a stream that is under way end."""
        self._told: set[str] = set()
        self._rangeless: set[str] = set()
        """Hosts of which the last that is known is that they ignore ranges."""
        self._no_room_until_s = 0.0
        self._closed = False

    def statistics(self) -> WholesStatistics:
        """Return what is kept now."""
        with self._lock:
            return WholesStatistics(tuple(key[0] for key in self._known))

    def serves(self, location: Location, size_bytes: int) -> bool:
        """Tell whether an object comes this way."""
        if not self.open:
            return False
        return not location.ranges or _key(location, size_bytes) in self._known

    @property
    def open(self) -> bool:
        """Whether there may be room on the disk."""
        return time.monotonic() >= self._no_room_until_s

    @property
    def usual(self) -> bool:
        """Whether objects come this way, as far as is known; one odd answer does not make it so."""
        return bool(self._rangeless)

    def part_came(self, location: Location) -> None:
        """Hear that a host has sent a part: it knows ranges, whatever it has answered once."""
        if self._rangeless:
            self._rangeless.discard(_host(location))

    def fetch(
        self,
        location: Location,
        wanted: Wanted,
        into: memoryview,
        landed: Callable[[int], None],
        given_up: Callable[[], bool],
        reply: tuple[Exchange, Connection, Reply] | None = None,
    ) -> Receipt:
        """Read `wanted` into `into` as it comes; have it come if it does not, by `reply` if there is one.

        `landed` hears of every piece, and of nothing new from time to time while the object comes nearer.

        Raises:
            LazyfsError: see `RangeReader.fetch`; SourceUnavailable, too, when the file does not fit on the
                disk: the next try goes another way.

        """
        try:
            return self._fetched(location, wanted, into, landed, given_up, reply)
        except CacheUnusable as error:
            with self._lock:
                self._no_room_until_s = time.monotonic() + NO_ROOM_S
                self._known.pop(_key(location, wanted.size_bytes), None)
            raise SourceUnavailable(error.cause, error.cure) from None

    def _fetched(
        self,
        location: Location,
        wanted: Wanted,
        into: memoryview,
        landed: Callable[[int], None],
        given_up: Callable[[], bool],
        reply: tuple[Exchange, Connection, Reply] | None,
    ) -> Receipt:
        asked_at_s = time.monotonic()
        whole, first_at_s, began = self._of(location, wanted.size_bytes), None, False
        try:
            while first_at_s is None:
                began |= self._begin(whole, location, reply, given_up)
                reply = None
                first_at_s = read_out(whole, wanted, into, landed, given_up)
            whole.taken(wanted.span)
        finally:
            with self._lock:
                whole.readers -= 1
            self._forget()
        return Receipt(first_at_s - asked_at_s, whole_object=began)

    def _of(self, location: Location, size_bytes: int) -> Whole:
        key = _key(location, size_bytes)
        with self._lock:
            if self._closed:
                raise SourceUnavailable("the request was given up")
            whole = self._known.get(key)
            if whole is None:
                whole = self._known[key] = Whole(size_bytes, self._directory)
            whole.readers += 1
            return whole

    def _begin(
        self,
        whole: Whole,
        location: Location,
        reply: tuple[Exchange, Connection, Reply] | None,
        given_up: Callable[[], bool],
    ) -> bool:
        """Begin a stream, unless there is one or nothing is missing; tell whether one was begun."""
        with whole.changed:
            needless = whole.streaming or whole.confirmed or whole.torn is not None
            if not needless:
                whole.streaming, whole.error = True, None
        if needless:
            if reply is not None:
                reply[1].close()  # a second one, for nothing
            return False
        while not self._streams.acquire(timeout=LOOK_S):
            if given_up() or self._closed:
                with whole.changed:
                    whole.streaming = False
                    whole.changed.notify_all()  # somebody else may begin it
                raise SourceUnavailable("the request was given up")
        self._tell(_host(location))
        thread = threading.Thread(target=self._stream, args=(whole, location, reply), daemon=True)
        if reply is not None:
            reply[0].give_away(reply[1])
        thread.start()
        return True

    def _tell(self, host: str) -> None:
        with self._lock:
            new = host not in self._told
            self._told.add(host)
            self._rangeless.add(host)
        if new:
            log.warning(
                "ranges_not_served host=%r consequence=%r",
                host,
                f"files come whole and in order, through temporary files in {self._place}",
            )

    def _stream(
        self, whole: Whole, location: Location, reply: tuple[Exchange, Connection, Reply] | None
    ) -> None:
        """Fetch an object to its end; in a thread of its own."""
        asker, error = Asker(self._patience), None

        def end() -> None:
            asker.end()
            if reply is not None:
                reply[1].sever()

        with self._lock:
            self._ends.add(end)
            if self._closed:
                end()
        try:
            if reply is not None:
                _adopted(reply[1], reply[2], whole)
            elif whole.filled_bytes < whole.size_bytes:
                _sent(asker, location, whole)
            _confirm(asker, location, whole)
        except LazyfsError as caught:
            error = caught
        except Exception:
            log.exception("internal_error host=%r", urlsplit(location.url).hostname)
            error = LazyfsError("internal error in lazyfs; the log has its traceback")
        finally:
            asker.close()
            self._streams.release()
            with self._lock:
                self._ends.discard(end)
            whole.end(error)
            self._forget()

    def _forget(self) -> None:
        """Let go of files nobody needs any more."""
        with self._lock:
            idle = [key for key, whole in self._known.items() if not whole.readers and not whole.streaming]
            for key in idle:
                if self._closed or self._known[key].needless:
                    self._known.pop(key).close()

    def close(self) -> None:
        """End all streams and let go of all files, as soon as nobody reads from them."""
        with self._lock:
            self._closed = True
            ends = list(self._ends)
        for end in ends:
            end()
        self._forget()


def _host(location: Location) -> str:
    return urlsplit(location.url).netloc.rpartition("@")[2]


def _key(location: Location, size_bytes: int) -> Key:
    """Return what an object is known by, though its URL may be signed anew."""
    url = urlsplit(location.url)
    place = f"{url.scheme}://{url.netloc}{url.path}"
    return place, location.version, location.modified, size_bytes


def _sent(exchange: Exchange, location: Location, whole: Whole) -> None:
    """Ask for the whole object and receive it."""
    url, headers = urlsplit(location.url), {**location.headers, "Accept-Encoding": "identity"}
    wanted = Wanted(ByteRange(0, whole.size_bytes), whole.size_bytes)
    for _ in range(REDIRECTS_MAX + 1):
        with exchange.replied(url, headers) as (connection, reply):
            if reply.status in REDIRECTS and "Location" in reply.headers:
                url, headers = follow(url, reply, headers)
                reply.text()
                continue
            check(reply, connection.host, location, wanted)
            receive(reply, connection.host, whole)
            return
    raise BadResponse(f"{url.hostname} redirects in a circle")


def _confirm(asker: Asker, location: Location, whole: Whole) -> None:
    """Ask once more whether what has come is the pinned version, where that can have changed meanwhile.

    Object storage replaces objects as a whole, and its URLs are signed for GET alone.
    """
    if location.proven:
        confirm(asker.probe(urlsplit(location.url), location.headers), location, whole.size_bytes)
    whole.confirm()


def _adopted(connection: Connection, reply: Reply, whole: Whole) -> None:
    """Receive the object from a reply to somebody's request for a part of it."""
    try:
        receive(reply, connection.host, whole)
    finally:
        with suppress(LazyfsError, OSError):
            reply.close()
        connection.close()
