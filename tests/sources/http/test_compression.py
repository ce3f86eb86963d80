"""Bodies and listings that come compressed."""

import pytest

from lazyfs.errors import LazyfsError
from tests.sources import webservers
from tests.sources.http.site import read, refused

pytestmark = pytest.mark.real


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
