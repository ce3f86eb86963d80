"""What `https://` lists: publications and indexes."""

import pytest

from lazyfs.core.publication import CONTENT_BYTES_MAX
from lazyfs.errors import AccessDenied, BadResponse, SourceMissing, UnfinishedPublication
from tests.faults.server import Behaviour
from tests.sources.http.site import MODIFIED, names, refused

pytestmark = pytest.mark.real


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


@pytest.mark.parametrize("end", ["", "<a href='b'>b</a></bo"])
def test_an_index_that_breaks_off_is_not_taken_for_a_whole_one(site, opened, end):
    page = f"<html><title>Index of /m/</title><a href='a'>a</a>{end}".encode()
    site.pages["/m/"] = Behaviour(body=page, without=("Content-Length",), close=True)
    site.file("/m/a")
    site.file("/m/b")

    error = refused(opened, site.url("/m/"))

    assert BadResponse is type(error)
    assert "breaks off" in error.cause


def test_an_index_without_a_length_that_has_its_end_is_whole(site, opened):
    page = b"<html><title>Index of /m/</title><a href='a'>a</a></html>\n"
    site.pages["/m/"] = Behaviour(body=page, without=("Content-Length",), close=True)
    site.file("/m/a")

    assert ["a"] == names(opened(site.url("/m/")))


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
