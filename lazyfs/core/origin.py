"""Origins: which server a blob's bytes come from, and what it is asked for. Pure.

Whoever reads a block from the cache believes the server that sent it. So a key of the cache is made of the
blob's origin (`BlobRef.store_key`), and an origin names scheme, host and port as they are really asked, and
then the object, in such a way that no two servers and no two objects are written alike::

    s3+aws://<partition>/<bucket>#<key>             S3 of AWS itself, in whichever region, by whichever style
    s3+<scheme>://<host>[:<port>]/<path>#<key>      any other: the URL of its objects, less their keys
    hf+<scheme>://<host>[:<port>][/<path>]#<kind>/<repository>#<path>
    http[s]://<host>[:<port>]/<path>
    file:///<path>

Only what comes last can hold a `#`: a URL that is asked for has none, nor has a repository's name. Where two
spellings may mean one server and nobody can tell (a trailing dot, 127.1 for 127.0.0.1), they count as two:
that costs a download, and the other way round would cost the truth.

Versions of lazyfs before these origins wrote `s3://` and `hf://` without the scheme (`is_older`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

from lazyfs.errors import OriginMismatch

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._~-]+", re.ASCII)
_OLDER = ("s3://", "hf://")
_NEWER = ("s3+", "hf+")
AWS = "s3+aws://"
"""What the origins of AWS itself begin with."""


def server(url: str) -> str:
    """Return scheme, host and port of a URL in the one way they are written here, like `https://host:8443`.

    A name outside of ASCII is written as DNS is asked for it (RFC 3490); user name and password are left out.

    Raises:
        ValueError: when it is no http:// or https:// URL, or its host or port can be none.

    """
    found = urlsplit(url)
    host, port = found.hostname or "", found.port
    if found.scheme not in _PORTS or port == 0:
        raise ValueError("not the URL of a server")
    where = f"{found.scheme}://{_written(host)}"
    return where if port in {None, _PORTS[found.scheme]} else f"{where}:{port}"


def same_server(one: str, other: str) -> bool:
    """Tell whether two URLs are of one server, however they are written; what is no URL is of none."""
    try:
        return server(one) == server(other)
    except ValueError:
        return False


def _written(host: str) -> str:
    """Return a host, in lower case, as it stands in a URL."""
    if ":" in host:
        return f"[{IPv6Address(host)}]"  # an AddressValueError is a ValueError
    name = host if host.isascii() else host.encode("idna").decode().lower()
    if _HOST.fullmatch(name) is None:
        raise ValueError("not the name of a host")
    return name


@dataclass(frozen=True, slots=True)
class Partition:
    """One of the separate clouds of AWS, as botocore's `partitions.json` describes it."""

    name: str
    """Like `aws` or `aws-cn`."""
    domain: str
    """What the names of its servers end with."""
    region: str
    """A regular expression for the names of its regions."""


def s3_place(above: str, bucket: str, partitions: Iterable[Partition]) -> str:
    """Return what begins the origins of a bucket's objects; the key follows.

    `above` is the URL of an object of it as it is really asked for, less the key. It is AWS when it is one
    that AWS documents ("Methods for accessing a bucket", with its dual-stack and FIPS endpoints), over https.

    Raises:
        ValueError: see `server`.

    """
    where, path = server(above), urlsplit(above).path
    host = where.removeprefix("https://")
    if path == f"/{bucket}/":
        partition = _partition(host, partitions)
    elif path == "/" and host.startswith(f"{bucket}."):
        partition = _partition(host.removeprefix(f"{bucket}."), partitions)
    else:
        partition = None
    return f"s3+{where}{path}#" if partition is None else f"{AWS}{partition}/{quote(bucket, safe='')}#"


def _partition(host: str, partitions: Iterable[Partition]) -> str | None:
    """Return the partition whose endpoint of S3 this is; None when it is that of none."""
    if host == "s3.amazonaws.com":
        return "aws"
    for one in partitions:
        endpoint = re.fullmatch(rf"s3(?:-fips)?(?:\.dualstack)?\.([a-z0-9-]+)\.{re.escape(one.domain)}", host)
        if endpoint is not None and re.fullmatch(one.region, endpoint[1]) is not None:
            return one.name
    return None


def hub_place(endpoint: str, kind: str, repository: str) -> str:
    """Return what begins the origins of a repository's files; the quoted path follows.

    `endpoint` begins with a `server`, and has neither a query nor a fragment.
    """
    return f"hf+{endpoint}#{kind}/{repository}#"


def below(origin: str, place: str) -> str:
    """Return what follows `place` in an origin.

    Raises:
        OriginMismatch: when the origin is at another place.

    """
    if not origin.startswith(place):
        raise OriginMismatch(
            f"it was listed as {origin!r}, and now {place!r} would be asked",
            "mount again to read from there, or give the source the endpoint again that it had",
        )
    return origin[len(place) :]


def names_scheme(origin: str) -> bool:
    """Tell whether an origin is of S3 or the Hub, as versions write it that name its scheme."""
    return origin.startswith(_NEWER)


def is_older(origin: str) -> bool:
    """Tell whether an origin is as versions wrote it that left out the scheme."""
    return origin.startswith(_OLDER)
