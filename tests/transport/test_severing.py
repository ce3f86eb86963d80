"""A fetch that is ended from another thread ends at once, wherever it is, and leaves no descriptor behind."""

import gc
import os
import socket
import ssl
import threading
import time

import pytest
import trustme

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import LazyfsError, SourceUnavailable, SourceUnreachable
from lazyfs.transport.connection import Patience
from lazyfs.transport.lane import Lane
from lazyfs.transport.line import Line
from lazyfs.transport.ranges import Wanted
from tests.faults.blackhole import black_hole
from tests.faults.server import Behaviour, FaultServer

SIZE = 3 << 20
TIMEOUT_S = 60.0
SOON_S = 20.0
"""Far less than the time-out, and enough for any machine."""


class Fetching:
    """A fetch in a thread of its own."""

    def __init__(self, url, lane=None):
        self.lane = lane or Lane(Patience(connect_s=TIMEOUT_S, first_byte_s=TIMEOUT_S, stall_s=TIMEOUT_S))
        self.landed = 0
        self.error = None
        self.into = bytearray(SIZE)
        self._thread = threading.Thread(target=self._fetch, args=(url,), daemon=True)
        self._thread.start()

    def _fetch(self, url):
        try:
            wanted = Wanted(ByteRange(0, SIZE), SIZE)
            self.lane.fetch(Location(url), wanted, memoryview(self.into), self._report)
        except LazyfsError as error:
            self.error = error

    def _report(self, count):
        self.landed = count

    def end(self):
        """End it; it must be over long before its time-out."""
        self.lane.end()
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
        self.lane.close()


def until(condition):
    deadline_s = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left():
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(SIZE))
    yield found
    found.close()
    until(lambda: not found.open_count)


@pytest.mark.real
def test_while_it_connects():
    with black_hole() as port:
        fetching = Fetching(f"http://127.0.0.1:{port}/x")
        time.sleep(0.1)
        assert fetching.error is None

        fetching.end()
    assert isinstance(fetching.error, SourceUnavailable)


def test_while_it_waits_for_a_head(server):
    server.behave = lambda _asked: Behaviour(delay_s=TIMEOUT_S)
    fetching = Fetching(server.url())
    until(lambda: server.asked)

    fetching.end()
    assert isinstance(fetching.error, SourceUnavailable)


@pytest.mark.parametrize("landed", [0, 1000, 1 << 20])
def test_while_it_waits_for_more(server, landed):
    server.behave = lambda _asked: Behaviour(stall_after=landed)
    fetching = Fetching(server.url())
    until(lambda: server.asked and fetching.landed == landed)

    fetching.end()
    assert isinstance(fetching.error, SourceUnavailable)
    assert server.content[:landed] == fetching.into[:landed]


@pytest.mark.real
def test_while_tls_shakes_hands():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fetching = Fetching(f"https://127.0.0.1:{silent.getsockname()[1]}/x")
        client, _ = silent.accept()
        with client:
            client.recv(10)
            fetching.end()
    assert isinstance(fetching.error, SourceUnreachable)


@pytest.mark.real
def test_under_tls_nothing_but_the_content_is_written(pattern_bytes, tmp_path, monkeypatch):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    server = FaultServer(pattern_bytes(SIZE), tls=context)
    fetching = Fetching(server.url(host="localhost"))
    try:
        until(lambda: fetching.landed > 100_000)
        fetching.end()
        # If the socket forgot that it speaks TLS, what follows would be ciphertext.
        written = len(bytes(fetching.into).rstrip(b"\0"))
        assert server.content[:written] == fetching.into[:written]
    finally:
        server.close()
        until(lambda: not server.open_count)


def test_an_ended_lane_fetches_nothing_more(server):
    lane = Lane()
    lane.end()
    fetching = Fetching(server.url(), lane)
    until(lambda: fetching.error)

    assert lane.ended
    assert not server.asked
    fetching.end()


@pytest.mark.real
def test_what_has_come_and_was_not_received_shows():
    line = Line()
    assert not line.unread
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        line.dial("127.0.0.1", server.getsockname()[1], 1.0, ()) as sock,
        server.accept()[0] as client,
    ):
        assert not line.unread
        client.sendall(b"x")
        until(lambda: line.unread)
        sock.recv(1)
        assert not line.unread
    line.close()


@pytest.mark.real
def test_an_address_that_does_not_answer_does_not_keep_the_next_from_being_tried(monkeypatch):
    with black_hole() as dead, socket.create_server(("127.0.0.1", 0)) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
                 for port in (dead, server.getsockname()[1])]  # fmt: skip
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        line = Line()
        line.dial("storage.example", 80, 4.0, ()).close()
        line.close()


@pytest.mark.real
def test_all_addresses_together_are_given_the_time_of_one(monkeypatch):
    with black_hole() as dead:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", dead))] * 200
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        line, began_s = Line(), time.monotonic()
        with pytest.raises(SourceUnreachable, match="cannot connect to storage.example:80: "):
            line.dial("storage.example", 80, 0.5, ())
        assert time.monotonic() - began_s < SOON_S  # and not 100 s
        line.close()
