"""Mounts of real web servers."""

import hashlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from lazyfs.demo.link import Link
from tests.e2e.conftest import BLOCK
from tests.e2e.mounting import inherited, lazyfs, mounted
from tests.faults.server import Behaviour, FaultServer
from tests.sources import webservers

LIFE_S = 1.0
BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def read_all(root, digests):
    with ThreadPoolExecutor(8) as threads:
        contents = threads.map(lambda name: (root / name).read_bytes(), digests)
        return {
            name: hashlib.sha256(content).hexdigest() for name, content in zip(digests, contents, strict=True)
        }


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.mark.parametrize("extra", ["autoindex_format json;", ""], ids=["json", "html"])
def test_a_directory_of_nginx_by_either_of_its_indexes(model, digests, mnt, cache_dir, state, extra):
    with webservers.nginx(model, state, extra) as port:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(2):  # cold, then from the cache
            with mounted(address, mnt, "--cache-dir", cache_dir, "--block-size", BLOCK) as mount:
                assert digests == read_all(mnt, digests)
                mount.complete()
            assert not mount.logged("ranges_not_served")


def test_a_directory_of_apache(model, digests, mnt, cache_dir, state):
    with (
        webservers.apache(model, state, "IndexOptions FancyIndexing HTMLTable") as port,
        mounted(f"http://127.0.0.1:{port}/", mnt, "--cache-dir", cache_dir) as mount,
    ):
        assert digests == read_all(mnt, digests)
        mount.complete()


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "uncached"])
def test_a_server_without_ranges_sends_every_file_once(model, digests, mnt, cache_dir, state, cache):
    options = ("--cache-dir", cache_dir) if cache else ("--cache-size", "0", "--memory", "64MiB")
    with (
        webservers.python(model, state) as port,
        mounted(f"http://127.0.0.1:{port}/", mnt, "--block-size", BLOCK, *options) as mount,
    ):
        with ThreadPoolExecutor(32) as threads:
            found = list(threads.map(lambda _: read_all(mnt, digests), range(4)))
        assert [digests] * 4 == found
        assert 1 == len(mount.wait_for_log("ranges_not_served"))
        if cache:
            mount.complete()
    gets = re.findall(r'"GET /(\S+) HTTP[^"]*" 200', (state / "out.log").read_text())
    # Once to read it; the smallest once more, to see that a byte of it cannot be had.
    for name in digests:
        assert gets.count(name) <= (2 if name == "config.json" else 1), gets


def test_tls_with_a_ca_of_ones_own(model, digests, mnt, cache_dir, state, tmp_path):
    authority, certificate, key = trustme.CA(), tmp_path / "cert.pem", tmp_path / "key.pem"
    bundle = tmp_path / "ca.pem"
    issued = authority.issue_cert("localhost")
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(bundle))
    with webservers.nginx(model, state, tls=(certificate, key)) as port:
        address = f"https://localhost:{port}/"
        environment = {name: value for name, value in inherited().items() if name not in BUNDLES}
        refused = lazyfs("ls", address, env=environment)
        with mounted(
            address, mnt, "--cache-dir", cache_dir, env={**environment, "SSL_CERT_FILE": str(bundle)}
        ):
            assert digests == read_all(mnt, digests)

    assert 5 == refused.returncode
    assert "certificate" in refused.stderr


def test_a_password_by_netrc_and_nobody_can_see_it(model, digests, mnt, cache_dir, state, tmp_path):
    users = tmp_path / "users"
    users.write_text("me:{PLAIN}hunter2-secret\n")
    extra = f'auth_basic "models"; auth_basic_user_file {users};'
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2-secret\n")
    netrc.chmod(0o600)
    with webservers.nginx(model, state, extra) as port:
        address = f"http://127.0.0.1:{port}/"
        empty = {**inherited(), "NETRC": os.devnull}
        refused = lazyfs("ls", address, env=empty)
        with mounted(
            address, mnt, "--cache-dir", cache_dir, env={**inherited(), "NETRC": str(netrc)}
        ) as mount:
            assert digests == read_all(mnt, digests)
            status = str(mount.status())
            kept = b"".join(path.read_bytes() for path in cache_dir.rglob("*.json"))

    assert 4 == refused.returncode
    assert "LAZYFS_HTTP_TOKEN" in refused.stderr
    assert "hunter2" not in mount.log + status
    assert b"hunter2" not in kept


def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path):
    refused = lazyfs("mount", "https://me:hunter2-secret@host.invalid/x/", tmp_path, env=inherited())

    assert 2 == refused.returncode
    assert "netrc" in refused.stderr
    assert "hunter2" not in refused.stderr + refused.stdout


def test_every_byte_of_a_server_without_ranges_crosses_the_link_once(model, digests, mnt, cache_dir, state):
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    with webservers.python(model, state) as port:
        link = Link(("127.0.0.1", port))
        try:
            with mounted(f"http://127.0.0.1:{link.port}/", mnt, "--cache-dir", cache_dir) as mount:
                with ThreadPoolExecutor(32) as threads:
                    list(threads.map(lambda _: read_all(mnt, digests), range(8)))
                mount.complete()
        finally:
            link.close()

    assert size <= link.received_bytes < 1.01 * size


def test_many_shards_come_once_though_all_headers_are_read_first(mnt, cache_dir, state, tmp_path):
    root, content = tmp_path / "root", os.urandom(1_500_000)
    root.mkdir()
    names = [f"model-{number:05d}-of-00030.safetensors" for number in range(1, 31)]
    for number, name in enumerate(names):
        (root / name).write_bytes(content[number:])
        os.utime(root / name, (1e9, 1e9))
    with (
        webservers.python(root, state) as port,
        mounted(f"http://127.0.0.1:{port}/", mnt, "--cache-dir", cache_dir, "--block-size", BLOCK) as mount,
    ):

        def head(name):
            with (mnt / name).open("rb") as file:
                return file.read(4096)

        with ThreadPoolExecutor(30) as threads:
            assert [content[n : n + 4096] for n in range(30)] == list(threads.map(head, names))
            found = list(threads.map(lambda name: (mnt / name).read_bytes(), names))
        assert [content[number:] for number in range(30)] == found
        mount.complete()

    gets = re.findall(r'"GET /(\S+) HTTP[^"]*" 200', (state / "out.log").read_text())
    # The smallest once more, to see that a byte of it cannot be had.
    assert sorted([*names, names[-1]]) == sorted(name for name in gets if name.startswith("model"))


@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_a_file_that_is_written_to_while_it_comes_whole_is_not_pulled(tmp_path, size):
    server, before = FaultServer(os.urandom(size)), "Thu, 01 Jan 2026 00:00:00 GMT"
    sent = []

    def behave(asked):
        modified = "Thu, 01 Jan 2026 00:00:01 GMT" if sent else before
        if asked.method == "GET" and (asked.span is None or asked.span[1] - asked.span[0] > 1):
            sent.append(asked)
        headers = {"Last-Modified": modified, "Accept-Ranges": "none"}
        return Behaviour(ignore_range=True, headers=headers, without=("ETag",))

    server.behave = behave
    try:
        pulled = lazyfs(
            "pull", server.url("/model.bin"), tmp_path / "out", "--block-size", BLOCK, env=inherited()
        )
    finally:
        server.close()

    assert 1 == pulled.returncode
    assert "pull again" in pulled.stderr
    assert 1 == len(sent)
    assert not (tmp_path / "out/model.bin").exists()


def test_signed_urls_that_expire_in_the_middle_of_a_load_are_renewed_and_counted(mnt, cache_dir):
    content = os.urandom(6_000_000)
    origin, storage = FaultServer(content), FaultServer(content)
    asked = []

    def sign(request):
        if request.method == "HEAD":
            asked.append(request)
        expires = time.time() + LIFE_S
        target = storage.url(f"/blob?Expires={int(expires) + 1}&until={expires}&Signature=hunter2")
        return Behaviour(status=302, headers={"Location": target})

    def serve(request):
        until = float(request.path.partition("until=")[2].partition("&")[0])
        return Behaviour(status=403) if time.time() > until else Behaviour(delay_s=0.6)

    origin.behave, storage.behave = sign, serve
    environment = {**inherited(), "LAZYFS_HTTP_TOKEN": "t0ken"}
    try:
        with mounted(
            origin.url("/model.bin"), mnt, "--cache-dir", cache_dir, "--block-size", BLOCK,
            "--connections", "2", env=environment,
        ) as mount:  # fmt: skip
            assert content == (mnt / "model.bin").read_bytes()
            mount.complete()
            status = str(mount.status())
        assert "hunter2" not in mount.log + status
    finally:
        origin.close()
        storage.close()

    assert 3 <= len(asked) < len(content) // BLOCK
    assert all("authorization" in request.headers for request in asked)
    assert not any("authorization" in request.headers for request in storage.asked)


def test_the_operator_says_where_sources_may_be(model, state):
    strict = {**inherited(), "LAZYFS_ALLOW_SOURCE": "public file:///nowhere/*"}
    with webservers.nginx(model, state) as port:
        address = f"http://127.0.0.1:{port}/"
        assert 0 == lazyfs("ls", address, env=inherited()).returncode
        assert 0 == lazyfs("ls", "--allow-source", "loopback", address, env=inherited()).returncode
        for source in (address, f"file://{model}"):
            refused = lazyfs("ls", source, env=strict)
            assert 4 == refused.returncode, refused.stderr
            assert "--allow-source" in refused.stderr
    malformed = lazyfs("ls", "--allow-source", "everything", address, env=inherited())

    assert 2 == malformed.returncode
    assert "everything" in malformed.stderr


def test_a_strict_operator_is_obeyed_by_a_mount_too(model, mnt):
    mnt.mkdir()
    refused = lazyfs("mount", "--allow-source", "public", f"file://{model}", mnt, env=inherited())

    assert 4 == refused.returncode
    assert "not where a file:// source may be" in refused.stderr
