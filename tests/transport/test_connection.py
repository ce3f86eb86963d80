import base64
import ssl

import pytest
import trustme

from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.demo.link import Link
from lazyfs.errors import SourceUnavailable, SourceUntrusted
from lazyfs.transport.connection import Patience
from lazyfs.transport.ranges import RangeReader, Wanted
from tests.faults.server import Behaviour, FaultServer

pytestmark = pytest.mark.real

QUICK = Patience(connect_s=1.0, first_byte_s=0.5, stall_s=0.5)


def read(url, size=100_000, start=10, stop=60_000):
    reader = RangeReader(QUICK)
    into = memoryview(bytearray(stop - start))
    try:
        reader.fetch(Location(url), Wanted(ByteRange(start, stop), size), into, lambda _count: None)
    finally:
        reader.close()
    return bytes(into)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority, pattern_bytes):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    found = FaultServer(pattern_bytes(100_000), tls=context)
    yield found
    found.close()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))


@pytest.mark.usefixtures("trusted")
def test_tls_with_a_ca_of_ones_own_reads_right(secure):
    assert secure.content[10:60_000] == read(secure.url(host="localhost"))


def test_a_certificate_nobody_vouches_for_is_refused_for_good(secure):
    with pytest.raises(SourceUntrusted, match="could not be verified.*AWS_CA_BUNDLE"):
        read(secure.url(host="localhost"))


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_ca_file_that_keeps_another_one_from_counting_is_named(
    secure, authority, tmp_path, monkeypatch, name
):
    other, ours = tmp_path / "other.pem", tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    authority.cert_pem.write_to_path(str(ours))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(ours))

    with pytest.raises(SourceUntrusted, match=f"{name} is set, and only the CAs in {other} count"):
        read(secure.url(host="localhost"))


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    other = FaultServer(b"x" * 100, tls=context)
    try:
        with pytest.raises(SourceUntrusted):
            read(other.url(host="localhost"))
    finally:
        other.close()


def test_an_unreadable_ca_bundle_is_named(secure, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")

    with pytest.raises(SourceUntrusted, match="/nowhere/ca.pem"):
        read(secure.url(host="localhost"))


@pytest.mark.usefixtures("trusted")
def test_a_stall_under_tls_ends(secure):
    secure.script = [Behaviour(stall_after=20_000)]

    with pytest.raises(SourceUnavailable, match="no answer"):
        read(secure.url(host="localhost"))


@pytest.mark.usefixtures("trusted")
def test_weights_are_not_read_over_a_link_that_lost_its_protection(secure, server):
    secure.script = [Behaviour(status=302, headers={"Location": server.url()})]

    with pytest.raises(SourceUntrusted, match="https to http"):
        read(secure.url(host="localhost"))
    assert not server.asked


def test_a_proxy_for_http_gets_the_whole_url_and_its_credentials(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://user:p%40ss@127.0.0.1:{server.port}")

    assert server.content[10:60_000] == read("http://storage.example/blob?a=b")
    assert "http://storage.example/blob?a=b" == server.asked[0].path
    credentials = base64.b64encode(b"user:p@ss").decode()
    assert f"Basic {credentials}" == server.asked[0].headers["proxy-authorization"]


def test_no_proxy_leaves_a_host_out(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    assert server.content[10:60_000] == read(server.url())


@pytest.mark.usefixtures("trusted")
def test_https_goes_through_a_tunnel(secure, monkeypatch):
    proxy = Tunnel(secure.port)
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
    try:
        assert secure.content[10:60_000] == read(secure.url(host="localhost"))
        assert [b"CONNECT localhost:%d" % secure.port] == proxy.targets
    finally:
        proxy.close()


class Tunnel:
    """A proxy that answers CONNECT, then relays."""

    def __init__(self, port: int) -> None:
        self.targets: list[bytes] = []
        self._link = Link(("127.0.0.1", port))
        self._head = FaultServer(serve=self._serve)
        self.port = self._head.port

    def _serve(self, client, _number) -> None:
        import socket
        import threading

        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)
        self.targets.append(head.split(b" HTTP/")[0])
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        upstream = socket.create_connection(("127.0.0.1", self._link.port))

        def pump(one, other):
            try:
                while piece := one.recv(65536):
                    other.sendall(piece)
                other.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        with client, upstream:
            back = threading.Thread(target=pump, args=(upstream, client))
            back.start()
            pump(client, upstream)
            back.join()

    def close(self) -> None:
        self._head.close()
        self._link.close()
