"""What is special about `https://`: indexes, pins, credentials, redirects, compression, bounds."""

import base64
import os
import time
from urllib.parse import urlsplit

import pytest

from lazyfs.core.blob import ByteRange
from lazyfs.core.publication import CONTENT_BYTES_MAX
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    BlobChanged,
    LazyfsError,
    LocationRefused,
    SourceMissing,
    SourceThrottled,
    SourceUnavailable,
    UnfinishedPublication,
    UsageError,
)
from lazyfs.sources import Access, open_source
from lazyfs.transport.lane import Lane
from lazyfs.transport.ranges import Wanted
from tests.faults.server import Behaviour, FaultServer
from tests.sources import webservers

MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class Site(FaultServer):
    """A server with pages: by path, how it answers; everything else is not there."""

    def __init__(self, **more):
        super().__init__(**more)
        self.pages = {}
        self.behave = lambda asked: self.pages.get(asked.path, Behaviour(status=404))

    def page(self, path, body=b"", **headers):
        self.pages[path] = Behaviour(body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def file(self, path, content=b"weights", how=None, **headers):
        self.files[path] = content
        self.pages[path] = how or Behaviour(headers={k.replace("_", "-"): v for k, v in headers.items()})

    def index(self, path, *names):
        links = "".join(f'<a href="{name}">{name}</a>' for name in names)
        self.page(path, f"<title>Index of {path}</title>{links}".encode(), Content_Type="text/html")


@pytest.fixture
def site(monkeypatch):
    for name in ("LAZYFS_HTTP_TOKEN", "LAZYFS_HTTP_USER", "LAZYFS_HTTP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    found = Site()
    yield found
    found.close()


@pytest.fixture
def opened():
    sources = []

    def connect(address, **access):
        sources.append(open_source(address, Access(**access)))
        return sources[-1]

    yield connect
    for source in sources:
        source.close()


def read(source, blob, start=0, stop=None):
    stop = blob.size_bytes if stop is None else stop
    into, lane = memoryview(bytearray(stop - start)), Lane()
    try:
        lane.fetch(source.locate(blob), Wanted(ByteRange(start, stop), blob.size_bytes), into, lambda _: None)
    finally:
        lane.close()
    return bytes(into)


def names(source):
    return sorted(blob.name for blob in source.list())


def refused(opened, address, **access):
    with pytest.raises(LazyfsError) as raised:
        list(opened(address, **access).list())
    assert raised.value.cure
    assert "\n" not in str(raised.value)
    return raised.value


# -- what there is -------------------------------------------------------------------------------------


def test_a_publication_says_what_there_is_without_any_index(site, opened):
    digest = "ab" * 32
    site.page("/m/lazyfs.json", b'{"lazyfs": 1, "files": [{"name": "sub/a b", "size": 7, "sha256": "%s",'
              b' "etag": "v1"}, {"name": "c", "size": 7}]}' % digest.encode())  # fmt: skip
    site.file("/m/sub/a%20b")
    site.file("/m/c")

    found = {blob.name: blob for blob in opened(site.url("/m")).list()}

    assert {"sub/a b", "c"} == found.keys()
    assert f"sha256:{digest}" == found["sub/a b"].digest
    assert found["c"].digest is None


def test_a_publication_that_pins_nothing_speaks_of_a_file_of_its_size(site, opened):
    site.page("/m/lazyfs.json", b'{"lazyfs": 1, "files": [{"name": "a", "size": 7, "sha256": "%s"}]}'
              % (b"ab" * 32))  # fmt: skip
    site.file("/m/a")

    assert [f"sha256:{'ab' * 32}"] == [blob.digest for blob in opened(site.url("/m/")).list()]


@pytest.mark.logs("publication_stale")
@pytest.mark.parametrize("more", [b'"size": 8', b'"size": 7, "modified_ns": 1'])
def test_one_of_another_size_or_time_gives_no_digest(site, opened, more):
    site.page("/m/lazyfs.json", b'{"lazyfs": 1, "files": [{"name": "a", "sha256": "%s", %s}]}'
              % (b"ab" * 32, more))  # fmt: skip
    site.file("/m/a", Last_Modified=MODIFIED)

    assert [None] == [blob.digest for blob in opened(site.url("/m/")).list()]


@pytest.mark.logs("publication_stale")
def test_an_etag_that_differs_is_not_overruled_by_the_same_time(site, opened):
    modified_ns = 1_767_225_600 * 10**9
    site.page("/m/lazyfs.json", b'{"lazyfs": 1, "files": [{"name": "a", "size": 7, "sha256": "%s",'
              b' "etag": "old", "modified_ns": %d}]}' % (b"ab" * 32, modified_ns))  # fmt: skip
    site.file("/m/a", Last_Modified=MODIFIED)

    (blob,) = opened(site.url("/m/")).list()

    assert modified_ns == blob.modified_ns
    assert blob.digest is None


@pytest.mark.logs("publication_stale")
def test_a_publication_that_speaks_of_another_version_gives_no_digest(site, opened, caplog):
    site.page("/m/lazyfs.json", b'{"lazyfs": 1, "files": [{"name": "a", "size": 7, "sha256": "%s",'
              b' "etag": "old"}]}' % (b"ab" * 32))  # fmt: skip
    site.file("/m/a")

    source = opened(site.url("/m/"))
    (blob,) = source.list()

    assert blob.digest is None
    assert ("a",) == source.unmet().stale
    assert "publication_stale files=1 first='a'" in caplog.text


@pytest.mark.logs("publication_unusable")
def test_a_publication_that_cannot_be_used_leaves_the_index(site, opened):
    site.page("/m/lazyfs.json", b"{}")
    site.index("/m/", "lazyfs.json", "a")
    site.file("/m/a")

    assert ["a"] == names(opened(site.url("/m/")))


@pytest.mark.logs("publication_unusable")
def test_one_that_is_too_long_leaves_the_index_and_is_asked_for_once(site, opened):
    site.page("/m/lazyfs.json", bytes(CONTENT_BYTES_MAX + 1))
    site.index("/m/", "lazyfs.json", "a")
    site.file("/m/a")

    assert ["a"] == names(opened(site.url("/m/")))
    assert 1 == sum(asked.path == "/m/lazyfs.json" for asked in site.asked)


@pytest.mark.logs("publication_unusable")
@pytest.mark.parametrize("body", [b"{}", bytes(CONTENT_BYTES_MAX + 1)])
def test_without_an_index_one_that_cannot_be_used_is_told(site, opened, body):
    site.page("/m/lazyfs.json", body)

    error = refused(opened, site.url("/m/"))

    assert isinstance(error, SourceMissing)
    assert "lazyfs.json" in error.cause


@pytest.mark.parametrize("path", ["/m/", "/m"])
def test_the_index_of_a_place_that_is_being_published_is_not_used(site, opened, path):
    site.page("/m/lazyfs.json", b'{"lazyfs": 1, "sent": []}')
    site.index("/m/", "lazyfs.json", "a")
    site.file("/m/a")

    error = refused(opened, site.url(path))

    assert isinstance(error, UnfinishedPublication)
    assert "lazyfs publish" in error.cure


def test_a_server_with_a_page_for_everything_has_no_publication(site, opened):
    site.page("/m/lazyfs.json", b"<html>Not here</html>")
    site.index("/m/", "a")
    site.file("/m/a")

    assert ["a"] == names(opened(site.url("/m/")))


def test_a_page_that_is_no_index_is_refused(site, opened):
    site.page("/m/", b"<title>Welcome</title><a href=a>a</a>")

    assert isinstance(refused(opened, site.url("/m/")), SourceMissing)


def test_directories_below_are_listed_and_nothing_above_or_elsewhere(site, opened):
    site.index("/m/", "../", "/etc/passwd", "http://elsewhere.invalid/m/x", "a", "sub/", "?C=N")
    site.index("/m/sub/", "../", "b", "deeper/")
    site.index("/m/sub/deeper/", "c")
    for path in ("/m/a", "/m/sub/b", "/m/sub/deeper/c"):
        site.file(path)

    assert ["a", "sub/b", "sub/deeper/c"] == names(opened(site.url("/m/")))
    assert all(asked.path.startswith("/m/") for asked in site.asked)


def test_a_hostile_name_is_listed_for_the_manifest_and_never_asked_for(site, opened):
    site.index("/m/", "..%2f..%2fetc%2fpasswd", "%2e%2e/", "a")
    site.file("/m/a")

    assert ["..", "../../etc/passwd", "a"] == names(opened(site.url("/m/")))
    assert {"/m/", "/m/lazyfs.json", "/m/a"} == {asked.path for asked in site.asked}


def test_a_circle_of_directories_ends(site, opened):
    site.behave = lambda asked: (
        Behaviour(body=b"<title>Index of /</title><a href=again/>again</a>")
        if asked.path.endswith("/") else Behaviour(status=404)
    )  # fmt: skip

    assert "nested deeper" in refused(opened, site.url("/m/")).cause


def test_a_directory_that_leads_to_another_server_is_not_followed(site, storage, opened):
    storage.index("/m/", "a")
    site.pages["/m/"] = Behaviour(status=302, headers={"Location": storage.url("/m/")})

    assert "leads elsewhere" in refused(opened, site.url("/m/")).cause


@pytest.mark.logs("entry_missing")
def test_what_is_listed_and_not_there_is_left_out(site, opened):
    site.index("/m/", "a", "dangling")
    site.file("/m/a")

    assert ["a"] == names(opened(site.url("/m/")))


def test_a_directory_that_may_not_be_listed_says_how_it_could_be(site, opened):
    site.pages["/m/"] = Behaviour(status=403)

    error = refused(opened, site.url("/m/"))

    assert isinstance(error, AccessDenied)
    assert "lazyfs.json" in error.cure


def test_an_index_that_is_compressed_all_the_same_is_read(site, opened):
    import gzip

    page = gzip.compress(b"<title>Index of /m/</title><a href=a>a</a>")
    site.page("/m/", page, Content_Encoding="gzip")
    site.file("/m/a")

    assert ["a"] == names(opened(site.url("/m/")))


@pytest.mark.parametrize("body", [b"\x1f\x8b nonsense", b""])
def test_an_index_that_is_not_compressed_as_it_says_is_refused(site, opened, body):
    site.page("/m/", body, Content_Encoding="gzip")

    with pytest.raises(BadResponse):
        list(opened(site.url("/m/")).list())


# -- pins ----------------------------------------------------------------------------------------------


def test_a_strong_etag_is_sent_along_and_every_reply_must_carry_it(site, opened):
    site.file("/a")
    source = opened(site.url("/a"))
    (blob,) = source.list()
    assert b"weights" == read(source, blob)
    assert '"v1"' == site.asked[-1].headers["if-match"]

    site.pages["/a"] = Behaviour(without=("ETag",))
    with pytest.raises(BadResponse, match="without the ETag"):
        read(source, blob)


def test_without_an_etag_the_time_and_the_size_pin(site, opened):
    site.file("/a", how=Behaviour(without=("ETag",), headers={"Last-Modified": MODIFIED}))
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert f"modified:{MODIFIED}" == blob.version
    assert b"weights" == read(source, blob)
    for how, error in (
        (
            Behaviour(without=("ETag",), headers={"Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT"}),
            BlobChanged,
        ),
        (Behaviour(without=("ETag",)), BadResponse),
    ):
        site.pages["/a"] = how
        with pytest.raises(error):
            read(source, blob)
    site.file("/a", b"weights longer", Behaviour(without=("ETag",), headers={"Last-Modified": MODIFIED}))
    with pytest.raises(BlobChanged):
        read(source, blob)


def test_a_weak_etag_pins_together_with_the_time(site, opened):
    site.file("/a", ETag='W/"v1"', Last_Modified=MODIFIED)
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert b"weights" == read(source, blob)
    assert "if-match" not in site.asked[-1].headers
    site.file("/a", ETag='"v1"', Last_Modified=MODIFIED)  # as Apache says it a second later
    assert b"weights" == read(source, blob)
    site.file("/a", ETag='W/"v1"', Last_Modified="Fri, 02 Jan 2026 00:00:00 GMT")
    with pytest.raises(BlobChanged):
        read(source, blob)


def test_what_nothing_pins_is_refused(site, opened):
    site.file("/a", how=Behaviour(without=("ETag",)))

    assert "cannot be pinned" in refused(opened, site.url("/a")).cause


def test_what_has_no_length_is_refused(site, opened):
    site.file("/a", how=Behaviour(without=("Content-Length",), ignore_range=True, close=True))

    assert "how long" in refused(opened, site.url("/a")).cause


def test_a_file_written_in_this_very_second_is_asked_for_again(site, opened):
    now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    replies = [
        Behaviour(headers={"ETag": '"first"', "Last-Modified": now, "Date": now}),
        Behaviour(headers={"ETag": '"second"', "Last-Modified": now}),
    ]
    site.files["/a"] = b"weights"
    site.behave = lambda asked: replies.pop(0)

    (blob,) = opened(site.url("/a")).list()

    assert 'etag:"second"' == blob.version


# -- compression ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_comes_compressed_is_refused(site, opened, name):
    site.file(f"/{name}", Content_Encoding="gzip")

    assert "compressed" in refused(opened, site.url(f"/{name}")).cause


def test_a_compressed_file_is_read_as_it_is_though_the_server_says_it_is_an_encoding(site, opened):
    site.file("/a.tar.gz", b"\x1f\x8b as it is", Content_Encoding="x-gzip")
    source = opened(site.url("/a.tar.gz"))
    (blob,) = source.list()

    assert b"\x1f\x8b as it is" == read(source, blob)


def test_a_part_that_comes_compressed_later_is_not_taken(site, opened):
    site.file("/a")
    source = opened(site.url("/a"))
    (blob,) = source.list()
    site.file("/a", Content_Encoding="gzip")

    with pytest.raises(LazyfsError, match="compresses"):
        read(source, blob)


def test_nginx_with_gzip_static_is_refused(tmp_path, opened):
    import gzip

    root = tmp_path / "root"
    root.mkdir()
    (root / "config.json").write_bytes(b"{}")
    (root / "config.json.gz").write_bytes(gzip.compress(b"{}"))
    with webservers.nginx(root, tmp_path / "state", "gzip_static always; gzip on;") as port:
        source = opened(f"http://127.0.0.1:{port}/config.json.gz")
        (blob,) = source.list()
        assert gzip.compress(b"{}")[:2] == read(source, blob)[:2]
        error = refused(opened, f"http://127.0.0.1:{port}/config.json")

    assert "compressed" in error.cause


# -- HEAD, ranges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_where_head_is_not_allowed_one_byte_is_asked_for(site, opened, status):
    site.files["/a"] = b"weights"
    site.behave = lambda asked: Behaviour(status=status) if asked.method == "HEAD" else Behaviour()
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert 7 == blob.size_bytes
    assert source.locate(blob).ranges


def test_whether_ranges_are_served_is_found_out_by_the_smallest_file_once(site, opened):
    site.index("/m/", "big", "small", "empty")
    for name, content in (("big", b"x" * 100), ("small", b"x"), ("empty", b"")):
        site.file(f"/m/{name}", content, Behaviour(without=("Accept-Ranges",), ignore_range=True))
    source = opened(site.url("/m/"))
    blobs = {blob.name: blob for blob in source.list()}

    assert not source.locate(blobs["big"]).ranges
    assert ["/m/small"] == [asked.path for asked in site.asked if asked.span]


def test_a_server_that_says_it_has_no_ranges_is_believed(site, opened):
    site.file("/a", Accept_Ranges="none")
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert not source.locate(blob).ranges
    assert not [asked for asked in site.asked if asked.span]


# -- credentials ---------------------------------------------------------------------------------------


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("environment", "netrc", "sent"),
    [
        ({"LAZYFS_HTTP_TOKEN": "t0ken\n"}, "", "Bearer t0ken"),
        ({"LAZYFS_HTTP_USER": "me", "LAZYFS_HTTP_PASSWORD": "pä:ss"}, "", basic("me", "pä:ss")),
        ({}, "machine 127.0.0.1 login me password pw", basic("me", "pw")),
        ({}, "machine elsewhere login me password pw", None),
        ({"LAZYFS_HTTP_TOKEN": "t0ken"}, "machine 127.0.0.1 login me password pw", "Bearer t0ken"),
    ],
)
def test_credentials_by_environment_or_netrc(site, opened, monkeypatch, tmp_path, environment, netrc, sent):
    file = tmp_path / "netrc"
    file.write_text(netrc)
    monkeypatch.setenv("NETRC", str(file))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    site.file("/a")
    source = opened(site.url("/a"))
    (blob,) = source.list()

    assert b"weights" == read(source, blob)
    assert {sent} == {asked.headers.get("authorization") for asked in site.asked}
    assert sent is None or sent.partition(" ")[2] not in repr(source.locate(blob)) + repr(blob)


def test_anonymous_sends_none(site, opened, monkeypatch):
    monkeypatch.setenv("LAZYFS_HTTP_TOKEN", "t")
    site.file("/a")
    list(opened(site.url("/a"), anonymous=True).list())

    assert not any("authorization" in asked.headers for asked in site.asked)


@pytest.mark.parametrize(
    ("environment", "netrc"),
    [
        ({"LAZYFS_HTTP_TOKEN": "hunter2\r\nX: y"}, None),
        ({"LAZYFS_HTTP_USER": "a:b", "LAZYFS_HTTP_PASSWORD": "hunter2"}, None),
        ({}, "machine 127.0.0.1 login me passwort hunter2"),
        ({"NETRC": "/nonexistent"}, None),
    ],
)
def test_credentials_that_cannot_be_used_are_not_repeated(
    site, opened, monkeypatch, tmp_path, environment, netrc
):
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(AccessDenied) as raised:
        opened(site.url("/a"))

    assert raised.value.cure
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["https://me:hunter2@host/x", "https://host/x?sig=hunter2", "https://host/x#hunter2", "https:///x",
                "https://[x/hunter2"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_and_not_repeated(opened, address):
    with pytest.raises(UsageError) as raised:
        opened(address)

    assert raised.value.cure
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (Behaviour(status=401), AccessDenied),
        (Behaviour(status=404), SourceMissing),
        (Behaviour(status=429, headers={"Retry-After": "3600"}), SourceThrottled),
        (Behaviour(status=418), BadResponse),
    ],
)
def test_what_the_server_answers(site, opened, how, error):
    site.behave = lambda _asked: how

    assert isinstance(refused(opened, site.url("/a")), error)


def test_trouble_is_tried_again(site, opened):
    site.file("/a")
    replies = [
        Behaviour(status=503),
        Behaviour(status=429, headers={"Retry-After": "0"}),
        Behaviour(down_s=0.1),
    ]
    site.behave = lambda _asked: replies.pop(0) if replies else Behaviour()

    assert ["a"] == names(opened(site.url("/a")))


def test_a_host_nobody_listens_on(opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    error = refused(opened, "http://127.0.0.1:9/x")

    assert isinstance(error, SourceUnavailable)
    assert "cannot connect to 127.0.0.1:9: Connection refused" == error.cause


def test_a_host_that_dns_does_not_know(opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    error = refused(opened, "http://nowhere.invalid/x")

    assert "cannot resolve nowhere.invalid" == error.cause
    assert "DNS" in error.cure


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_nobody_listens_on_is_named_as_one(opened, monkeypatch, scheme):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    monkeypatch.setenv(f"{scheme}_proxy", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = refused(opened, f"{scheme}://weights.invalid/x")

    assert "cannot connect to the proxy 127.0.0.1:9: Connection refused" == error.cause
    assert "HTTPS_PROXY" in error.cure


def test_https_to_a_server_that_speaks_http_says_so(tmp_path, opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    with webservers.nginx(tmp_path, tmp_path / "state") as port:
        error = refused(opened, f"https://127.0.0.1:{port}/x")

    assert "does not speak TLS" in error.cause
    assert "http://" in error.cure


def test_a_server_that_goes_on_throttling_says_what_to_do(site, opened, monkeypatch):
    monkeypatch.setattr("lazyfs.sources.http_access.TRIES", 1)
    site.pages["/a"] = Behaviour(status=429)
    error = refused(opened, site.url("/a"))

    assert isinstance(error, SourceThrottled)
    assert "later" in error.cure


# -- redirects -----------------------------------------------------------------------------------------


@pytest.fixture
def storage():
    found = Site()
    yield found
    found.close()


def test_a_signed_url_is_asked_for_once_a_file_and_without_credentials(site, storage, opened, monkeypatch):
    monkeypatch.setenv("LAZYFS_HTTP_TOKEN", "t0ken")
    expires = int(time.time()) + 3600
    signed = f"/blob?Expires={expires}&Signature=x"
    storage.files["/blob"] = b"weights"
    # Signed for GET only, as S3 does it.
    storage.behave = lambda asked: Behaviour(status=403 if asked.method == "HEAD" else None)
    site.pages["/a"] = Behaviour(status=302, headers={"Location": storage.url(signed, host="localhost")})
    source = opened(site.url("/a"))
    (blob,) = source.list()
    asked_before = len(site.asked)
    location = source.locate(blob)

    assert "localhost" == urlsplit(location.url).hostname
    assert expires == location.expires_at_s
    assert site.url("/a") == blob.origin
    lane, into = Lane(), memoryview(bytearray(3))
    for start in range(4):
        lane.fetch(location, Wanted(ByteRange(start, start + 3), 7), into, lambda _: None)
    lane.close()
    assert 1 == len(site.asked) - asked_before
    assert not any("authorization" in asked.headers for asked in storage.asked)
    assert "Signature" not in repr(location)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_target_that_has_expired_is_located_again(site, storage, opened, status):
    storage.file("/old")
    storage.file("/new")
    site.pages["/a"] = Behaviour(status=307, headers={"Location": storage.url("/old")})
    source = opened(site.url("/a"))
    (blob,) = source.list()
    location = source.locate(blob)
    storage.pages["/old"] = Behaviour(status=status)
    site.pages["/a"] = Behaviour(status=307, headers={"Location": storage.url("/new")})
    lane, into = Lane(), memoryview(bytearray(7))
    with pytest.raises(LocationRefused):
        lane.fetch(location, Wanted(ByteRange(0, 7), 7), into, lambda _: None)
    lane.close()

    assert b"weights" == read(source, blob)


def test_a_file_that_is_gone_behind_its_redirect_is_changed(site, storage, opened):
    storage.file("/x")
    site.pages["/a"] = Behaviour(status=302, headers={"Location": storage.url("/x")})
    source = opened(site.url("/a"))
    (blob,) = source.list()
    site.pages["/a"] = Behaviour(status=404)

    with pytest.raises(BlobChanged):
        source.locate(blob)


def test_a_redirect_to_a_directory_of_the_same_server_is_where_it_is(site, opened):
    site.pages["/latest"] = Behaviour(status=302, headers={"Location": "/v3/"})
    site.index("/v3/", "a")
    site.file("/v3/a")

    (blob,) = opened(site.url("/latest")).list()

    assert site.url("/v3/a") == blob.origin


@pytest.mark.parametrize("ranges", [True, False])
def test_what_another_process_has_listed_can_be_located(site, opened, ranges):
    how = Behaviour() if ranges else Behaviour(without=("Accept-Ranges",), ignore_range=True)
    site.file("/a", how=how)
    (blob,) = opened(site.url("/a")).list()
    found = opened(site.url("/a"))

    assert ranges == found.locate(blob).ranges
    assert b"weigh" == read(found, blob, 0, 5)
