"""No source is a way to what only this machine can reach: addresses, after DNS and redirects, and files."""

import os

import pytest

from lazyfs.core.allowance import Allowance
from lazyfs.core.blob import ByteRange
from lazyfs.core.location import Location
from lazyfs.errors import AccessDenied
from lazyfs.sources import Access, open_source
from lazyfs.transport import gate
from lazyfs.transport.connection import Patience
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from lazyfs.transport.route import admit
from tests.faults.server import Behaviour, FaultServer

METADATA = "http://169.254.169.254/latest/meta-data/"
QUICK = Patience(connect_s=0.2, first_byte_s=0.2, stall_s=0.2)


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    gate.allow(Allowance())


@pytest.fixture
def server():
    found = FaultServer(b"weights")
    yield found
    found.close()


def listed(address, *allowed, endpoint=None):
    source = open_source(address, Access(endpoint, allowed=allowed))
    try:
        return list(source.list())
    finally:
        source.close()


def read(url):
    lane, into = Lane(QUICK), memoryview(bytearray(7))
    try:
        lane.fetch(Location(url), Wanted(ByteRange(0, 7), 7), into, lambda _count: None)
    finally:
        lane.close()
    return bytes(into)


@pytest.mark.real
@pytest.mark.parametrize(
    "url",
    [
        METADATA,
        "http://2852039166/",  # what getaddrinfo takes for 169.254.169.254
        "http://0xa9fea9fe/",
        "http://169.254.43518/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "https://169.254.169.254/",
    ],
)
def test_metadata_is_out_of_reach_however_its_address_is_written(url):
    with pytest.raises(AccessDenied) as raised:
        read(url)

    assert "link-local" in raised.value.cause
    assert "--allow-source" in raised.value.cure


def test_a_redirect_does_not_lead_there(server):
    server.behave = lambda _asked: Behaviour(status=302, headers={"Location": METADATA})

    with pytest.raises(AccessDenied):
        read(server.url())
    with pytest.raises(AccessDenied):
        listed(server.url())


def test_the_operator_can_allow_it():
    gate.allow(Allowance(frozenset({"link-local"})))

    gate.require_address("storage.example", "169.254.255.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_this_machine_is_a_source_by_default_and_not_for_a_strict_operator(server, host):
    address = server.url(host=host)
    if host != "[::ffff:127.0.0.1]":
        assert b"weights" == read(address)

    with pytest.raises(AccessDenied, match="loopback"):
        listed(address, "public")
    with pytest.raises(AccessDenied, match="loopback"):
        listed(address, "private")
    assert listed(server.url(), "loopback")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("s3://bucket/x", METADATA.removesuffix("/latest/meta-data/")),
        ("hf://me/model", "http://169.254.169.254"),
    ],
)
def test_an_endpoint_is_no_way_around_it(address, endpoint, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(AccessDenied, match="link-local"):
        listed(address, endpoint=endpoint)


@pytest.mark.real
def test_a_name_that_cannot_be_resolved_is_left_to_whoever_connects():
    admit("http://nowhere.invalid/")


def test_through_a_proxy_only_an_address_in_the_url_is_looked_at(server, monkeypatch):
    """It is the proxy that resolves; and it is where the operator says, on this machine or not."""
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    gate.allow(Allowance(frozenset({"public"})))

    assert b"weights" == read("http://storage.example/x")
    for url in (METADATA, "http://127.0.0.1/", "http://localhost/", "http://metadata.localhost./"):
        with pytest.raises(AccessDenied):
            read(url)
        with pytest.raises(AccessDenied):
            admit(url)
    admit("http://storage.example/x")
    assert ["http://storage.example/x"] == [asked.path for asked in server.asked]


# -- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "a").write_bytes(b"weights")
    (tmp_path / "private").write_bytes(b"private")
    return tmp_path / "models"


def test_files_are_only_where_the_operator_allows_them(models):
    assert ["a"] == [blob.name for blob in listed(f"file://{models}/m", f"file://{models}/*")]
    for address, allowed in (
        (f"file://{models}/m", "public"),
        (f"file://{models.parent}", f"file://{models}/*"),
        (f"file://{models}/../private", f"file://{models}/*"),
    ):
        with pytest.raises(AccessDenied, match="not where a file:// source may be"):
            listed(address, allowed)


def test_a_link_that_leads_out_is_refused(models):
    (models / "m" / "link").symlink_to(models.parent / "private")

    with pytest.raises(AccessDenied, match="link"):
        listed(f"file://{models}/m", f"file://{models}/*")
    assert 2 == len(listed(f"file://{models}/m"))


def test_a_directory_that_is_allowed_may_be_a_link_itself(models):
    other = models.parent / "by-another-name"
    other.symlink_to(models)

    assert ["a"] == [blob.name for blob in listed(f"file://{other}/m", f"file://{other}/*")]


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_read(models):
    source = open_source(f"file://{models}/m", Access(allowed=(f"file://{models}/*",)))
    (blob,) = source.list()
    state = (models / "m" / "a").stat()
    (models / "m" / "a").unlink()
    (models / "m" / "a").symlink_to(models.parent / "private")
    os.utime(models.parent / "private", ns=(state.st_mtime_ns, state.st_mtime_ns))
    lane, into = Lane(), memoryview(bytearray(7))

    with pytest.raises(AccessDenied):
        lane.fetch(source.locate(blob), Wanted(ByteRange(0, 7), 7), into, lambda _count: None)
    lane.close()
    source.close()

    assert b"private" != bytes(into)
