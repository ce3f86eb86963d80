"""Where a client of S3 really asks for the objects of a bucket: what begins their origins (`core/origin.py`).

botocore makes that of many things: options, variables, a profile and its services section, the region, FIPS
and dual-stack, the style, the bucket's name. None of them is looked at here, but the URL that comes of them.
"""

from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.loaders import Loader

from lazyfs.core.origin import Partition, s3_place
from lazyfs.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KEY = "x"
_OLDER_AWS = (".amazonaws.com", ".amazonaws.com.cn")


@cache
def _partitions() -> tuple[Partition, ...]:
    """Return what botocore itself knows of the partitions, whatever else lies where it looks for models."""
    own = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    found = own.load_data("partitions")["partitions"]
    return tuple(Partition(one["id"], one["outputs"]["dnsSuffix"], one["regionRegex"]) for one in found)


def place_of(client: "S3Client", bucket: str) -> str:
    """Return what begins the origins of a bucket's objects; the key follows. Asks nobody but for credentials.

    Raises:
        UsageError: when the endpoint is no URL.
        botocore's exceptions: when there are no credentials, or the bucket's name can be none.

    """
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": _KEY})
    return place_at(url, bucket, _KEY)


def place_at(url: str, bucket: str, key: str) -> str:
    """Return what begins the origin of an object that is asked for at a URL.

    Raises:
        UsageError: when that is not the URL of a server.

    """
    # As botocore writes a key into a path.
    above = url.partition("?")[0].removesuffix(quote(key, safe="/~"))
    try:
        return s3_place(above, bucket, _partitions())
    except ValueError as error:
        server = urlsplit(above).netloc.rpartition("@")[2]
        raise UsageError(
            f"the endpoint of S3 makes {server!r} the server to ask, which is none ({error})",
            "write it like https://minio.example:9000",
        ) from None


def older_place(client: "S3Client", bucket: str) -> str:
    """Return what began the origins in the manifests of earlier versions, which knew AWS by its domain."""
    netloc = urlsplit(client.meta.endpoint_url).netloc.rpartition("@")[2]
    return f"s3://{'aws' if netloc.endswith(_OLDER_AWS) else netloc}/{bucket}/"
