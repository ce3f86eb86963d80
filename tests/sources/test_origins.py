"""Two who share a node: what the one has had sent is never what the other is given for it.

A tenant chooses endpoint, scheme, port, path, region, style, bucket, repository and names. Whatever they are,
what two of them ask for has one key only where it is really asked of one server.
"""

import os
import tempfile
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from unittest import mock
from urllib.parse import quote, urlsplit

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.blob import BlobRef, BlockKey
from lazyfs.core.origin import AWS
from lazyfs.errors import OriginMismatch, UsageError
from lazyfs.sources import Access, open_source
from tests.cache.rig import GRID, SIZE, A, aligned, block, opened
from tests.faults.bucket import FaultBucket
from tests.faults.server import Behaviour

PLAIN = {
    "AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true",
    "HF_ENDPOINT": "https://huggingface.co",
}  # fmt: skip
ETAG = 'etag:"1"'
NOTHING_SAID = Access()


@dataclass(frozen=True)
class Tenant:
    """What somebody mounts: an address, and what the volume and its secret say of it."""

    address: str
    name: str
    """Of the object: a key, or a path."""
    version: str = ETAG
    size_bytes: int = SIZE
    environment: tuple[tuple[str, str], ...] = ()
    access: Access = NOTHING_SAID


@dataclass(frozen=True)
class Found:
    """The blob somebody is shown, and who is really asked for it."""

    blob: BlobRef
    asked: tuple[object, ...]


@pytest.fixture(autouse=True, scope="module")
def _models_read_once():
    """A client reads 2 MB of JSON when it is made, and here hundreds are."""
    read = cache(partial(JSONFileLoader.load_file, JSONFileLoader()))
    with mock.patch.object(JSONFileLoader, "load_file", lambda _, path: read(path)):
        yield


def found(tenant: Tenant) -> Found:
    """Return what a tenant's source makes of the object. Nothing is asked."""
    with mock.patch.dict(os.environ, PLAIN | dict(tenant.environment), clear=True):
        source = open_source(tenant.address, tenant.access)
        try:
            name = tenant.name if tenant.address.startswith("s3:") else quote(tenant.name)
            blob = BlobRef("a", source.place + name, tenant.version, tenant.size_bytes)
            if tenant.address.startswith("http"):
                url = blob.origin  # which is what is asked; `locate` would try it
            else:
                url = source.locate(replace(blob, revision="c")).url
        finally:
            source.close()
    return Found(blob, asked_at(url, tenant))


def asked_at(url: str, tenant: Tenant) -> tuple[object, ...]:
    """Return who is asked for what, told from the URL alone; AWS is one server, but for its partitions."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    kind, bucket = tenant.address.partition("://")[0], tenant.address.partition("://")[2].partition("/")[0]
    if kind == "s3" and parts.scheme == "https" and port == 443:
        path, key = parts.path, "/" + quote(tenant.name, safe="/~")
        for endpoint, partition in AWS_ENDPOINTS.items():
            if (host, path) in {(f"{bucket}.{endpoint}", key), (endpoint, f"/{bucket}{key}")}:
                return "s3", partition, bucket, tenant.name, tenant.version, tenant.size_bytes
    return kind.rstrip("s"), parts.scheme, host, port, parts.path, tenant.version, tenant.size_bytes


REGIONS = {"us-east-1": ("aws", ""), "eu-west-1": ("aws", ""), "cn-north-1": ("aws-cn", ".cn"),
           "us-gov-west-1": ("aws-us-gov", "")}  # fmt: skip
AWS_ENDPOINTS = {"s3.amazonaws.com": "aws"} | {
    f"{name}.{region}.amazonaws.com{more}": partition
    for name in ("s3", "s3-fips", "s3.dualstack", "s3-fips.dualstack")
    for region, (partition, more) in REGIONS.items()
}
HOSTS = (
    "aws", "AWS", "aws.", "minio", "models.minio", "[::1]", "[0::1]", "127.0.0.1", "127.1", "huggingface.co",
    "HuggingFace.co", "s3.amazonaws.com", "models.s3.amazonaws.com", "s3.us-east-1.amazonaws.com",
    "ec2-192-0-2-1.compute-1.amazonaws.com", "evil.amazonaws.com", "s3.cn-north-1.amazonaws.com.cn",
)  # fmt: skip
servers = st.builds(
    lambda scheme, user, host, port, path: f"{scheme}://{user}{host}{port}{path}",
    st.sampled_from(["http", "https"]), st.sampled_from(["", "", "aws@", "u:p@"]), st.sampled_from(HOSTS),
    st.sampled_from(["", ":80", ":443", ":9000"]),
    st.sampled_from(["", "/", "/models", "/models/o", "/aws/"]),
)  # fmt: skip
bare = servers.map(lambda url: url.replace("aws@", "").replace("u:p@", ""))
names = st.sampled_from(["a", "o/a", "models/a", "a#a", "a?a", "m#a", "m/a", "aws/models/a", "\U0001f600"])
versions = st.sampled_from([ETAG, 'etag:"1"\0', "id:1"])
sizes = st.sampled_from([SIZE, 4])
secrets = st.fixed_dictionaries(
    {},
    optional={
        "AWS_ENDPOINT_URL": servers, "AWS_ENDPOINT_URL_S3": servers,
        "AWS_REGION": st.sampled_from(
            ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "compute-1", "aws"]
        ),
        "AWS_USE_FIPS_ENDPOINT": st.just("true"), "AWS_USE_DUALSTACK_ENDPOINT": st.just("true"),
    },
)  # fmt: skip
buckets = st.builds(
    lambda bucket, name, version, size, secret, endpoint, style: Tenant(
        f"s3://{bucket}", name, version, size, tuple(secret.items()),
        Access(endpoint, addressing_style=style),
    ),
    st.sampled_from(["models", "aws", "minio", "models.minio", "s3.amazonaws.com"]), names, versions, sizes,
    secrets, st.none() | servers, st.sampled_from([None, "path", "virtual"]),
)  # fmt: skip
hubs = st.builds(
    lambda repository, name, endpoint: Tenant(
        f"hf://{repository}", name, environment=(("HF_ENDPOINT", endpoint),)
    ),
    st.sampled_from(["o/m", "models", "datasets/o/m", "o", "m@main"]), names, bare,
)  # fmt: skip
sites = st.builds(Tenant, bare, names, versions, sizes)
files = st.builds(Tenant, st.sampled_from(["file:///models", "file:///aws"]), names)


tenants = buckets | buckets | hubs | sites | files


def shown(tenant):
    """Return what a tenant is shown; None where what it says names no server."""
    try:
        return found(tenant)
    except UsageError:
        return None


@given(st.lists(tenants, min_size=2, max_size=5))
def test_two_have_one_key_exactly_where_they_ask_one_server_for_one_object(several):
    every = [one for one in map(shown, several) if one is not None]

    for one in every:
        for other in every:
            assert (one.blob.store_key == other.blob.store_key) == (one.asked == other.asked)


@given(tenants, tenants, st.booleans())
def test_no_block_of_one_is_given_to_another_who_asks_elsewhere(first, second, proven):
    """Whatever the second one claims of its bytes: also that they have the name the first one's have here."""
    one, other = shown(replace(first, size_bytes=SIZE)), shown(replace(second, size_bytes=SIZE))
    if one is None or other is None:
        return
    with tempfile.TemporaryDirectory() as made:
        sent = opened(Path(made), snapshot={A: one.blob})
        for index in range(GRID.count(SIZE)):
            sent.write(BlockKey(A, index), aligned(block((b"forged" * SIZE)[:SIZE], index)))

        for digest in (None, f"sha256:{one.blob.store_key}"):
            asking = opened(Path(made), snapshot={A: replace(other.blob, digest=digest)}, proven=proven)
            assert bool(asking.stored_bytes) == (one.asked == other.asked)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("http://host", "http://HOST:80/"),
        ("https://host:443", "https://host"),
        ("http://[::1]:9000", "http://[0:0::1]:9000"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_one_server_has_one_key_however_its_name_is_written(here, there):
    hub, site = Tenant("hf://o/m", "a"), Tenant("", "a")
    for one in (lambda url: replace(hub, environment=(("HF_ENDPOINT", url),)),
                lambda url: replace(site, address=url)):  # fmt: skip
        assert found(one(here)).blob.store_key == found(one(there)).blob.store_key


class Machine(FaultBucket):
    """A server that is reached as if it were a proxy, and so by whichever name is asked for."""

    def _read(self, lines, number):
        asked = super()._read(lines, number)
        if asked is None:
            return None
        parts = urlsplit(asked.path)
        return replace(asked, path=f"{parts.path}?{parts.query}")


@pytest.fixture
def machine():
    made = Machine({"config.json": b"{}"})
    yield made
    made.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("http://ec2-192-0-2-1.compute-1.amazonaws.com", "http://ec2-192-0-2-2.compute-1.amazonaws.com"),
        ("http://s3.us-east-1.amazonaws.com", "http://ec2-192-0-2-2.compute-1.amazonaws.com"),
        ("http://s3.cn-north-1.amazonaws.com.cn", "http://s3.us-east-1.amazonaws.com"),
        ("http://s3.us-east-1.amazonaws.com", "http://aws"),
        ("http://gateway/team-a", "http://gateway/team-b"),
    ],
)
def test_what_two_servers_list_alike_are_two_blobs(machine, here, there):
    keys = []
    for endpoint in (here, there):
        said = PLAIN | {"AWS_ENDPOINT_URL": endpoint, "http_proxy": machine.url("")}
        with mock.patch.dict(os.environ, said, clear=True):
            source = open_source(machine.address, Access())
            keys += [blob.store_key for blob in source.list()]
            source.close()

    assert 2 == len(keys) == len(set(keys))


@pytest.mark.real
def test_credentials_that_are_found_anew_beside_another_endpoint_lead_nowhere_else(machine, tmp_path):
    """A file that is read again because its keys are refused may say something else of the endpoint, too."""
    file, other = tmp_path / "config", Machine({"config.json": b"[]"})
    text = "[default]\nendpoint_url = {}\naws_access_key_id = {}\naws_secret_access_key = x\n"
    file.write_text(text.format(machine.url(""), "one"))
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    said = {name: value for name, value in PLAIN.items() if name not in keys} | {"AWS_CONFIG_FILE": str(file)}
    refusal = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    with mock.patch.dict(os.environ, said, clear=True):
        source = open_source(machine.address, Access())
        (blob,) = source.list()
        source.locate(blob)
        file.write_text(text.format(other.url(""), "two"))
        machine.behave = lambda _asked: Behaviour(status=403, body=refusal)

        with pytest.raises(OriginMismatch, match=str(other.port)):
            source.locate(blob)
        source.close()
    other.close()


def test_a_web_server_of_another_scheme_is_another_hub():
    plain, safe = (
        found(Tenant("hf://o/m", "a", environment=(("HF_ENDPOINT", url),)))
        for url in ("http://huggingface.co", "https://huggingface.co")
    )

    assert plain.blob.store_key != safe.blob.store_key


def place(bucket="models", region="us-east-1", **how):
    environment = {name: how.pop(name) for name in [name for name in how if name.isupper()]}
    tenant = Tenant(f"s3://{bucket}", "a", access=Access(**how),
                    environment=(("AWS_REGION", region), *environment.items()))  # fmt: skip
    return found(tenant).blob.origin.removesuffix("#a")


def test_a_bucket_of_aws_is_one_whatever_the_region_and_the_style():
    styles = [place(addressing_style=style, region=region)
              for style in ("path", "virtual") for region in ("us-east-1", "eu-west-1")]  # fmt: skip
    others = [place(AWS_USE_FIPS_ENDPOINT="true"), place(AWS_USE_DUALSTACK_ENDPOINT="true")]

    assert {f"{AWS}aws/models"} == {*styles, *others}
    assert f"{AWS}aws-cn/models" == place(region="cn-north-1")
    assert f"{AWS}aws-us-gov/models" == place(region="us-gov-west-1")


@pytest.mark.parametrize(
    "endpoint",
    ["http://ec2-192-0-2-1.compute-1.amazonaws.com", "https://ec2-192-0-2-1.compute-1.amazonaws.com",
     "http://s3.amazonaws.com", "https://s3.amazonaws.com:8443", "https://s3.amazonaws.com/models",
     "https://other.s3.amazonaws.com", "https://abc.execute-api.us-east-1.amazonaws.com", "http://aws",
     "https://aws"],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["endpoint_url", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_of_ones_own_is_never_that_of_aws(endpoint, variable):
    assert place(**{variable: endpoint}).startswith(f"s3+{endpoint}")


@pytest.mark.parametrize(
    "profile",
    ["endpoint_url = http://s3.evil.amazonaws.com\n",
     "services = own\n[services own]\ns3 =\n  endpoint_url = http://s3.evil.amazonaws.com\n"],
)  # fmt: skip
def test_an_endpoint_of_a_profile_is_what_it_is(profile, tmp_path):
    file = tmp_path / "config"
    file.write_text(f"[default]\n{profile}")

    assert "s3+http://s3.evil.amazonaws.com/models/" == place(AWS_CONFIG_FILE=str(file))


def test_two_paths_of_one_endpoint_and_two_styles_are_not_one():
    endpoint = "https://gateway.example"
    asked = [f"{endpoint}/team-a", f"{endpoint}/team-b", endpoint]

    places = {
        place(endpoint_url=url, addressing_style=style) for url in asked for style in ("path", "virtual")
    }

    assert 6 == len(places)


@pytest.mark.parametrize(
    "endpoint",
    ["https://h?x=1", "https://h/#x", "https://user@h", "https://h\\@g", "https://h:0", "h", "ftp://h"],
)
def test_an_endpoint_of_the_hub_that_could_be_read_in_two_ways_is_refused(endpoint):
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        found(Tenant("hf://o/m", "a", environment=(("HF_ENDPOINT", endpoint),)))


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (Tenant("s3://models", "a", access=Access("http://127.0.0.1:9001")),
         Tenant("s3://models", "a", access=Access("http://127.0.0.1:9002"))),
        (Tenant("s3://models", "a"), Tenant("s3://models", "a", access=Access("https://aws"))),
        (Tenant("s3://models", "a"), Tenant("s3://other1", "a")),
        (Tenant("hf://o/m", "a"), Tenant("hf://o/m", "a", environment=(("HF_ENDPOINT", "http://h"),))),
        (Tenant("hf://o/m", "a"), Tenant("hf://o/n", "a")),
        (Tenant("http://here", "a"), Tenant("http://also", "a")),
        (Tenant("http://here", "a"), Tenant("https://here", "a")),
        (Tenant("http://here", "a"), Tenant("http://here.evil", "a")),
        (Tenant("file:///models", "a"), Tenant("http://here", "a")),
    ],
)  # fmt: skip
def test_a_source_never_says_where_a_blob_of_another_is(here, there):
    pinned = found(there).blob
    with mock.patch.dict(os.environ, PLAIN | dict(here.environment), clear=True):
        source = open_source(here.address, here.access)
        try:
            with pytest.raises(OriginMismatch, match="mount again"):
                source.locate(pinned)
        finally:
            source.close()


@pytest.mark.parametrize(
    ("tenant", "older"),
    [
        (Tenant("s3://models", "x/a"), "s3://aws/models/x/a"),
        (Tenant("s3://models", "x/a", access=Access("http://minio:9000")), "s3://minio:9000/models/x/a"),
        (Tenant("hf://o/m", "x/a"), "hf://huggingface.co/models/o/m/x/a"),
        (Tenant("hf://o/m", "x/a", environment=(("HF_ENDPOINT", "http://H:1/p/"),)),
         "hf://H:1/p/models/o/m/x/a"),
    ],
)  # fmt: skip
def test_what_an_older_version_has_pinned_is_found_where_it_was_listed(tenant, older):
    now = found(tenant).blob
    with mock.patch.dict(os.environ, PLAIN | dict(tenant.environment), clear=True):
        source = open_source(tenant.address, tenant.access)
        try:
            before = replace(now, origin=older)
            assert now == source.renamed(before) == source.renamed(now)
            assert (source.locate(now).url.partition("?")[0]
                    == source.locate(before).url.partition("?")[0])  # fmt: skip
            with pytest.raises(OriginMismatch):
                source.locate(replace(now, origin=older.replace("://", "://x")))
        finally:
            source.close()
