"""No two servers, and no two objects, are written alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.origin import (
    Partition,
    below,
    hub_place,
    is_older,
    names_scheme,
    s3_place,
    same_server,
    server,
)
from lazyfs.errors import OriginMismatch

PARTITIONS = (
    Partition("aws", "amazonaws.com", r"^(us|eu|ap)\-\w+\-\d+$"),
    Partition("aws-cn", "amazonaws.com.cn", r"^cn\-\w+\-\d+$"),
    Partition("aws-us-gov", "amazonaws.com", r"^us\-gov\-\w+\-\d+$"),
)


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://host", "https://host"),
        ("HTTPS://HOST:443/path?query", "https://host"),
        ("http://host:80", "http://host"),
        ("http://host:", "http://host"),
        ("http://host:0080", "http://host"),
        ("https://host:80", "https://host:80"),
        ("http://user:pass:word@host:9000", "http://host:9000"),
        ("http://real.example:80@other.example", "http://other.example"),
        ("http://host.", "http://host."),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://[0:0:0:0:0:0:0:1]:9000", "http://[::1]:9000"),
        ("http://[FE80::1%25eth0]", "http://[fe80::1%25eth0]"),
        ("http://127.1", "http://127.1"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://\u212aafka.example", "https://kafka.example"),
    ],
)
def test_a_server_is_written_in_one_way(url, written):
    assert written == server(url)


@pytest.mark.parametrize(
    "url",
    ["", "host", "ftp://host", "http://", "http://:80", "http://host:0", "http://host:65536", "http://host:x",
     "http://a b", "http://a\\b", "http://a%2eb", "http://[::1", "http://[v1.x:y]", "http://[1:2]",
     "http://" + "\u00fc" * 70],
)  # fmt: skip
def test_what_names_no_server_is_refused(url):
    with pytest.raises(ValueError, match="."):
        server(url)


def test_servers_are_compared_by_what_they_are():
    assert same_server("http://Host/a", "http://host:80/b")
    assert not same_server("http://host", "https://host")
    assert not same_server("http://host:0", "http://host:0")


@pytest.mark.parametrize(
    ("above", "bucket", "place"),
    [
        ("https://bucket.s3.amazonaws.com/", "bucket", "s3+aws://aws/bucket#"),
        ("https://s3.amazonaws.com/bucket/", "bucket", "s3+aws://aws/bucket#"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/", "bucket", "s3+aws://aws/bucket#"),
        ("https://s3.eu-west-1.amazonaws.com:443/dotted.bucket/", "dotted.bucket",
         "s3+aws://aws/dotted.bucket#"),
        ("https://bucket.s3-fips.dualstack.us-east-1.amazonaws.com/", "bucket", "s3+aws://aws/bucket#"),
        ("https://bucket.s3.cn-north-1.amazonaws.com.cn/", "bucket", "s3+aws://aws-cn/bucket#"),
        ("https://bucket.s3.us-gov-west-1.amazonaws.com/", "bucket", "s3+aws://aws-us-gov/bucket#"),
        # Whatever is not the very endpoint of AWS is what it is.
        ("http://bucket.s3.amazonaws.com/", "bucket", "s3+http://bucket.s3.amazonaws.com/#"),
        ("https://bucket.s3.amazonaws.com:8443/", "bucket", "s3+https://bucket.s3.amazonaws.com:8443/#"),
        ("https://other.s3.amazonaws.com/bucket/", "bucket", "s3+https://other.s3.amazonaws.com/bucket/#"),
        ("https://s3.amazonaws.com/other/bucket/", "bucket", "s3+https://s3.amazonaws.com/other/bucket/#"),
        ("https://bucket.s3.amazonaws.com/other/", "bucket", "s3+https://bucket.s3.amazonaws.com/other/#"),
        ("https://bucket.s3.compute-1.amazonaws.com/", "bucket",
         "s3+https://bucket.s3.compute-1.amazonaws.com/#"),
        ("https://bucket.s3.cn-north-1.amazonaws.com/", "bucket",
         "s3+https://bucket.s3.cn-north-1.amazonaws.com/#"),
        ("http://ec2-192-0-2-1.compute-1.amazonaws.com/bucket/", "bucket",
         "s3+http://ec2-192-0-2-1.compute-1.amazonaws.com/bucket/#"),
        ("https://aws/bucket/", "bucket", "s3+https://aws/bucket/#"),
        ("https://s3.amazonaws.com.evil.example/bucket/", "bucket",
         "s3+https://s3.amazonaws.com.evil.example/bucket/#"),
        ("https://s3xamazonaws.com/bucket/", "bucket", "s3+https://s3xamazonaws.com/bucket/#"),
    ],
)  # fmt: skip
def test_a_bucket_is_that_of_aws_only_where_aws_is_asked(above, bucket, place):
    assert place == s3_place(above, bucket, PARTITIONS)


texts = st.sampled_from(["", "/", "#", "a", "a/b", "a#b"])


@given(st.lists(st.tuples(texts, texts, texts), min_size=2, unique=True))
def test_a_repository_and_a_path_are_never_joined_to_those_of_another(parts):
    """An endpoint has no `#`, and neither has a repository's name."""
    origins = {
        hub_place(f"https://h/{endpoint.replace('#', '')}", "models", name.replace("#", "")) + path
        for endpoint, name, path in parts
    }
    different = {(endpoint.replace("#", ""), name.replace("#", ""), path) for endpoint, name, path in parts}

    assert len(different) == len(origins)


def test_what_is_below_a_place_is_told_and_what_is_elsewhere_is_refused_with_the_cure():
    assert "a#b" == below("s3+https://h/b/#a#b", "s3+https://h/b/#")
    with pytest.raises(OriginMismatch, match=r"listed as 's3\+https://h/c/#a'.*mount again"):
        below("s3+https://h/c/#a", "s3+https://h/b/#")


@pytest.mark.parametrize(
    ("origin", "older", "newer"),
    [
        ("s3://aws/bucket/key", True, False),
        ("hf://huggingface.co/models/o/m/a", True, False),
        ("s3+aws://aws/bucket#key", False, True),
        ("hf+https://huggingface.co#models/o/m#a", False, True),
        ("https://host/a", False, False),
        ("file:///a", False, False),
    ],
)
def test_origins_of_older_versions_are_told_from_those_of_today(origin, older, newer):
    assert (older, newer) == (is_older(origin), names_scheme(origin))
