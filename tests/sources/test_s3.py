import logging
import socket
import ssl
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from lazyfs.core.blob import BlobRef
from lazyfs.errors import (
    AccessDenied,
    LazyfsError,
    SourceMissing,
    SourceUnavailable,
    SourceUntrusted,
    UsageError,
)
from lazyfs.sources import Access, open_source
from lazyfs.sources.s3_session import S3Session
from tests.faults.server import Behaviour, FaultServer
from tests.sources.places import Bucket


def listed(address, access):
    found = open_source(address, access)
    try:
        return list(found.list())
    finally:
        found.close()


def refused(address, access):
    with pytest.raises(LazyfsError) as raised:
        listed(address, access)
    assert raised.value.cure
    assert "\n" not in str(raised.value)
    return raised.value


def test_more_keys_than_fit_on_a_page_are_all_listed(bucket):
    from concurrent.futures import ThreadPoolExecutor

    names = [f"{number % 7}/{number:05d}" for number in range(2500)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: bucket.put(name, name.encode()), names))

    assert sorted(names) == [
        blob.name for blob in sorted(listed(bucket.address, bucket.access), key=lambda b: b.name)
    ]


def test_the_whole_bucket_can_be_listed_and_directory_markers_are_no_files(bucket):
    bucket.put("a/b", b"1")
    bucket.put("a/", b"")

    assert f"{bucket.prefix}/a/b" in {blob.name for blob in listed(f"s3://{bucket.name}", bucket.access)}
    assert ["b"] == [blob.name for blob in listed(f"{bucket.address}/a/", bucket.access)]


def test_a_prefix_is_a_directory_not_the_start_of_a_name(bucket):
    bucket.put("llama/x", b"1")
    bucket.put("llama-2/y", b"1")

    assert ["x"] == [blob.name for blob in listed(f"{bucket.address}/llama", bucket.access)]


def test_an_object_by_version_id_is_pinned_by_it_whatever_happens_to_the_key(aws):
    bucket = Bucket(aws, "versioned")
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    bucket.put("a", b"old")
    old = bucket.client.head_object(Bucket=bucket.name, Key=bucket.key("a"))["VersionId"]
    bucket.put("a", b"newer")

    (blob,) = listed(f"{bucket.address}/a?versionId={old}", bucket.access)
    found = open_source(bucket.address, bucket.access)
    location = found.locate(blob)
    found.close()

    assert f"id:{old}" == blob.version
    assert 3 == blob.size_bytes
    assert [old] == parse_qs(urlsplit(location.url).query)["versionId"]
    assert "If-Match" not in location.headers
    bucket.close()


def test_a_presigned_url_expires_and_says_when(bucket):
    bucket.put("a", b"1")
    found = open_source(bucket.address, bucket.access)
    (blob,) = found.list()
    location = found.locate(blob)
    found.close()

    query = parse_qs(urlsplit(location.url).query)
    assert ["3600"] == query["X-Amz-Expires"]
    assert abs(location.expires_at_s - (time.time() + 3600)) < 60
    assert location.version == location.headers["If-Match"]


def test_anonymous_access_is_not_signed(aws, bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    access = Access(endpoint_url=aws.endpoint_url, anonymous=True)
    public = Bucket(aws, "public")
    public.put("a", b"1")
    public.close()

    (blob,) = listed(public.address, access)
    found = open_source(public.address, access)
    url = found.locate(blob).url
    found.close()

    assert "?" not in url
    assert isinstance(refused(bucket.address, access), AccessDenied)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_can_come_from_the_environment(aws, bucket, monkeypatch, variable):
    bucket.put("a", b"1")
    monkeypatch.setenv(variable, aws.endpoint_url)

    assert ["a"] == [blob.name for blob in listed(bucket.address, Access())]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("endpoint", "style", "url"),
    [
        (None, None, "https://bucket.s3.eu-west-1.amazonaws.com/k"),
        (None, "path", "https://s3.eu-west-1.amazonaws.com/bucket/k"),
        ("https://minio.example:9000", None, "https://minio.example:9000/bucket/k"),
        ("https://minio.example:9000", "virtual", "https://bucket.minio.example:9000/k"),
    ],
)
def test_path_and_virtual_style(endpoint, style, url):
    made = S3Session(Access(endpoint, addressing_style=style)).client("eu-west-1")
    signed = made.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    made.close()

    assert url == signed.partition("?")[0]


@pytest.mark.usefixtures("aws")
def test_the_style_can_come_from_the_aws_configuration(tmp_path, monkeypatch):
    file = tmp_path / "config"
    file.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    made = S3Session(Access("https://minio.example")).client()

    assert (
        "https://bucket.minio.example/k"
        == made.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"}).partition("?")[
            0
        ]
    )
    made.close()


def test_the_same_object_under_two_prefixes_is_one_blob_in_the_store(bucket):
    bucket.put("m/a", b"1")

    (one,) = listed(f"{bucket.address}/m", bucket.access)
    (other,) = listed(bucket.address, bucket.access)

    assert ("a", "m/a") == (one.name, other.name)
    assert one.store_key == other.store_key


# -- trouble: one line that names the cause and the cure -----------------------------------------------


def test_no_such_bucket(aws):
    error = refused("s3://no-such-bucket-here/x", Access(aws.endpoint_url))

    assert isinstance(error, SourceMissing)
    assert "no bucket no-such-bucket-here" in error.cause


def test_no_such_prefix(bucket):
    bucket.put("a", b"1")
    error = refused(f"{bucket.address}/nothing", bucket.access)

    assert isinstance(error, SourceMissing)
    assert "nothing at s3://" in error.cause


def test_an_empty_bucket(aws):
    bucket = Bucket(aws, "empty")
    bucket.close()

    assert isinstance(refused("s3://empty", bucket.access), SourceMissing)


@pytest.mark.parametrize(
    ("variable", "value"), [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "wrong")]
)
def test_wrong_credentials(bucket, monkeypatch, variable, value):
    bucket.put("a", b"1")
    monkeypatch.setenv(variable, value)
    error = refused(bucket.address, bucket.access)

    assert isinstance(error, AccessDenied)
    assert "credentials are wrong" in error.cause


def test_no_credentials(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = refused(bucket.address, bucket.access)

    assert isinstance(error, AccessDenied)
    assert "no AWS credentials" in error.cause


def test_half_the_credentials(bucket, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    assert isinstance(refused(bucket.address, bucket.access), AccessDenied)


@pytest.fixture
def issuer(tmp_path, monkeypatch):
    """Gives out credentials that soon expire, others each time, unless the file it returns is there."""
    closed, count = tmp_path / "closed", tmp_path / "count"
    script = tmp_path / "issuer"
    script.write_text(
        f"#!/bin/sh\n[ -e {closed} ] && {{ echo away >&2; exit 1; }}\necho >> {count}\n"
        'echo "{\\"Version\\": 1, \\"AccessKeyId\\": \\"$AK-$(wc -l < ' + str(count) + ')\\",'
        ' \\"SecretAccessKey\\": \\"$SK\\",'
        ' \\"Expiration\\": \\"$(date -u -d "5 minutes" +%Y-%m-%dT%H:%M:%SZ)\\"}"\n'
    )
    script.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AK", "key")
    monkeypatch.setenv("SK", "secret")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return closed


def test_credentials_that_expire_are_renewed_and_who_gives_them_out_may_be_away_for_a_while(bucket, issuer):
    source = open_source(bucket.address, bucket.access)
    blob = BlobRef("a", f"{source.place}a", 'etag:"x"', 1)

    def signed_with():
        return parse_qs(urlsplit(source.locate(blob).url).query)["X-Amz-Credential"][0].partition("/")[0]

    first, second = signed_with(), signed_with()
    issuer.touch()
    with pytest.raises(SourceUnavailable, match="cannot be renewed"):
        source.locate(blob)
    issuer.unlink()
    third = signed_with()
    source.close()

    assert 3 == len({first, second, third})
    assert first.startswith("key-")


def test_a_profile_that_does_not_exist(bucket, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    assert isinstance(refused(bucket.address, bucket.access), AccessDenied)


@pytest.mark.usefixtures("aws")
def test_an_endpoint_nobody_listens_on():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = refused("s3://bucket/x", Access(f"http://127.0.0.1:{port}"))

    assert isinstance(error, SourceUnavailable)
    assert f"cannot connect to 127.0.0.1:{port}" in error.cause


@pytest.mark.usefixtures("aws")
def test_a_host_that_dns_does_not_know():
    error = refused("s3://bucket/x", Access("http://nowhere.invalid:9000"))

    assert isinstance(error, SourceUnavailable)
    assert "cannot resolve nowhere.invalid:9000" in error.cause


@pytest.mark.usefixtures("aws")
def test_a_certificate_nobody_vouches_for():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = FaultServer(tls=context)
    try:
        error = refused("s3://bucket/x", Access(f"https://localhost:{server.port}"))
    finally:
        server.close()

    assert isinstance(error, SourceUntrusted)
    assert "AWS_CA_BUNDLE" in error.cure


def test_https_to_a_server_that_speaks_http(aws):
    assert isinstance(
        refused("s3://bucket/x", Access(aws.endpoint_url.replace("http", "https"))), SourceUntrusted
    )


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "AccessDenied", AccessDenied, "is denied"),
        (400, "ExpiredToken", AccessDenied, "have expired"),
        (403, "RequestTimeTooSkewed", AccessDenied, "clock"),
        (503, "SlowDown", SourceUnavailable, "SlowDown"),
        (500, "InternalError", SourceUnavailable, "the server failed"),
        (400, "SomethingElse", LazyfsError, "SomethingElse: said so"),
    ],
)
def test_what_the_server_answers(status, code, kind, words):
    server = FaultServer()
    body = f"<Error><Code>{code}</Code><Message>said\nso</Message></Error>".encode()
    server.behave = lambda _asked: Behaviour(
        status=status, body=body, headers={"Content-Type": "application/xml"}
    )
    try:
        error = refused("s3://bucket/x", Access(server.url("")))
    finally:
        server.close()

    assert isinstance(error, kind)
    assert words in error.cause


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("address", ["s3://", "s3:///x", "s3://Bad_Bucket!/x"])
def test_an_address_that_cannot_be(address):
    with pytest.raises(LazyfsError):
        listed(address, Access("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://x/y", "unknown scheme ftp://"),
        ("/models", "is not a source"),
        ("file://host/x", "not a local path"),
    ],
)
def test_an_address_of_no_source(address, words):
    with pytest.raises(UsageError, match=words):
        open_source(address, Access())


@pytest.mark.usefixtures("aws")
def test_a_proxy_that_is_away_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    error = refused("s3://bucket/x", Access("http://storage.example"))

    assert isinstance(error, SourceUnavailable)
    assert "127.0.0.1:9" in error.cause
    assert "secret" not in str(error)


def test_credentials_never_reach_a_log(bucket, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "lazyfs")
    bucket.put("a", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    refused(bucket.address, bucket.access)

    assert "very-secret-key" not in caplog.text


def test_the_bucket_region_is_signed_for(monkeypatch, aws):
    """A presigned GET is not redirected to the bucket's region, so it must be made for it."""
    from lazyfs.sources.s3 import S3Source

    source = S3Source("bucket", "x", None, Access())
    source.bucket.move_to("eu-north-1")
    url = source.locate(BlobRef("a", f"{source.place}x/a", 'etag:"1"', 1)).url
    source.close()

    assert url.startswith("https://bucket.s3.eu-north-1.amazonaws.com/x/a?")
