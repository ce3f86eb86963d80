"""What botocore's exceptions mean to a user: the cause in one line, and the cure."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from urllib3.exceptions import NameResolutionError

from lazyfs.core.s3_refusals import Passing, S3Refusal
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    ClockSkewed,
    CredentialsExpired,
    CredentialsInvalid,
    LazyfsError,
    SourceMissing,
    SourceThrottled,
    SourceUnavailable,
    SourceUntrusted,
    UsageError,
)

BOTOCORE_RAISES = (aws.BotoCoreError, aws.ClientError, ResponseParserError, ValueError, RecursionError)
"""Everything it raises for a bad server or configuration; the last when it follows HTML as if it were S3."""
SERVER_ERROR = 500

# What the server's error codes mean: our error, cause and cure. HEAD replies have no body, so no code but the
# status.
_Meaning = tuple[type[LazyfsError], str, str]
_SHORT_OF_RIGHTS: _Meaning = (
    AccessDenied,
    "access to bucket {bucket} is denied ({answer})",
    "grant s3:ListBucket and s3:GetObject, to publish s3:PutObject; for a public bucket use --anonymous",
)
_WRONG_KEYS: _Meaning = (
    CredentialsInvalid,
    "the credentials are wrong ({answer})",
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
)
_REFUSED_KEYS = ("InvalidAccessKeyId", "InvalidToken", "InvalidTokenId", "SignatureDoesNotMatch")
_NO_OBJECT: _Meaning = (SourceMissing, "no such object in bucket {bucket}", "check the prefix")
_SLOW_DOWN: _Meaning = (SourceThrottled, "bucket {bucket}: {answer}", "try again later")
_ANSWERS: dict[str, _Meaning] = {
    "NoSuchBucket": (SourceMissing, "there is no bucket {bucket}", "check its name and --endpoint-url"),
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "NotFound", "404"), _NO_OBJECT),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "Forbidden", "403", "401"), _SHORT_OF_RIGHTS),
    **dict.fromkeys(_REFUSED_KEYS, _WRONG_KEYS),
    **dict.fromkeys(("503", "429"), _SLOW_DOWN),
}
_PASSING: dict[Passing, _Meaning] = {
    Passing.THROTTLED: _SLOW_DOWN,
    Passing.TROUBLE: (SourceUnavailable, "bucket {bucket}: the server failed ({answer})", "try again later"),
    Passing.EXPIRED: (CredentialsExpired, "the credentials have expired ({answer})", "renew them"),
    Passing.SKEWED: (ClockSkewed, "this machine's clock is wrong ({answer})", "set it by NTP"),
}


def not_s3() -> SourceUnavailable:
    """Return what to say of a server that speaks HTTP, but not S3."""
    return SourceUnavailable("the endpoint's answer is not S3's", "check --endpoint-url and AWS_ENDPOINT_URL")


def unreadable(error: Exception) -> BadResponse:
    """Return what to say of an answer that botocore cannot read, by what it raised."""
    return BadResponse(
        f"the endpoint's answer is not S3's ({type(error).__name__}: {one_line(error)[:100]})",
        "check --endpoint-url and AWS_ENDPOINT_URL, and what the server is",
    )


def incomplete(what: str, lacks: str) -> BadResponse:
    """Return what to say of an answer that leaves out what S3 always says."""
    return BadResponse(
        f"the server tells no {lacks} of {what}, as S3 does", "use a server, or a version of it, that does"
    )


def required(answer: Mapping[str, Any], name: str, what: str) -> Any:
    """Return what an answer says of something.

    Raises:
        BadResponse: when it does not.

    """
    found = answer.get(name)
    if not found:
        raise incomplete(what, name)
    return found


def refusal_of(response: Any) -> S3Refusal:
    """Return what an answer refuses, as botocore has read it; an empty one of an answer that does not."""
    said: Any = response.get("Error") or {}
    message = " ".join(str(said.get("Message") or "").split())
    return S3Refusal(str(said.get("Code") or ""), message, str(said.get("Region") or ""))


def translate(error: Exception, bucket: str) -> LazyfsError:
    """Return our error for one of botocore's, or for the ValueError it raises for a malformed endpoint."""
    if isinstance(error, aws.ClientError):
        return _answered(error, bucket)
    for kinds, ours in _RAISED:
        if isinstance(error, kinds):
            return ours(error, bucket)
    return LazyfsError(f"S3 bucket {bucket}: {one_line(error)}")


def _answered(error: aws.ClientError, bucket: str) -> LazyfsError:
    """Return the error for what the server answered."""
    refusal = refusal_of(error.response)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = refusal.code or str(status)  # a page of a proxy has none
    answer = f"{code}: {refusal.message}".rstrip(": .")
    if code == "404" and error.operation_name in {"ListObjectsV2", "ListObjects"}:
        return not_s3()
    meaning = _ANSWERS.get(code)
    if refusal.passing is not None:
        meaning = _PASSING[refusal.passing]
    if meaning is not None:
        ours, cause, cure = meaning
        return ours(cause.format(bucket=bucket, answer=answer), cure)
    if status >= SERVER_ERROR:
        return SourceUnavailable(f"bucket {bucket}: the server failed ({answer})", "try again later")
    return LazyfsError(f"bucket {bucket}: {answer}", "check the bucket's name, region and --endpoint-url")


def host_of(error: Exception) -> str:
    """Return the host an error is about, without path, query or credentials."""
    url = str(getattr(error, "kwargs", {}).get("endpoint_url", ""))
    return urlsplit(url).netloc.rpartition("@")[2] or "the endpoint"


def one_line(error: object) -> str:
    """Return a message without line breaks, and without the user and password of a URL."""
    return re.sub(r"[^\s/\"']+@", "", " ".join(str(error).split()))


def _credentials(error: Exception, _bucket: str) -> LazyfsError:
    if isinstance(error, aws.NoCredentialsError):
        return CredentialsInvalid(
            "there are no AWS credentials",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --anonymous for a public bucket",
        )
    return AccessDenied(
        f"AWS credentials: {one_line(error)}", "correct AWS_PROFILE, or the profile in ~/.aws/config"
    )


def _unreachable(error: Exception, _bucket: str) -> LazyfsError:
    cause = getattr(error, "kwargs", {}).get("error")
    if isinstance(cause, NameResolutionError):
        return SourceUnavailable(f"cannot resolve {host_of(error)}", "check --endpoint-url and DNS")
    return SourceUnavailable(
        f"cannot connect to {host_of(error)}", "check --endpoint-url, and that the server runs"
    )


def _untrusted(error: Exception, _bucket: str) -> LazyfsError:
    return SourceUntrusted(
        f"TLS with {host_of(error)} failed ({one_line(getattr(error, 'kwargs', {}).get('error', error))})",
        "set AWS_CA_BUNDLE to the CA that signed the server's certificate, or correct the URL's scheme",
    )


def _late(error: Exception, _bucket: str) -> LazyfsError:
    return SourceUnavailable(f"no answer from {host_of(error)} in time", "check the network and proxies")


def _proxy(error: Exception, _bucket: str) -> LazyfsError:
    proxy = urlsplit(str(getattr(error, "kwargs", {}).get("proxy_url", ""))).netloc.rpartition("@")[2]
    return SourceUnavailable(
        f"cannot connect to the proxy {proxy}", "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    )


def _broken(error: Exception, bucket: str) -> LazyfsError:
    return SourceUnavailable(f"bucket {bucket}: {one_line(error)}", "try again later")


def _malformed(error: Exception, bucket: str) -> LazyfsError:
    if isinstance(error, RecursionError | ResponseParserError):
        return not_s3()
    if "Invalid bucket name" in str(error):
        return UsageError(
            f"{bucket!r} is no name of a bucket",
            "it has 3 to 63 lower-case letters, digits, dots and hyphens",
        )
    return UsageError(
        f"bucket {bucket}: {one_line(error)}", "correct the region, --endpoint-url or AWS_ENDPOINT_URL"
    )


# The first that fits counts: subclasses stand before what they derive from.
_RAISED: tuple[tuple[tuple[type[Exception], ...], Callable[[Exception, str], LazyfsError]], ...] = (
    (
        (
            aws.NoCredentialsError,
            aws.PartialCredentialsError,
            aws.ProfileNotFound,
            aws.ConfigParseError,
            aws.ConfigNotFound,
        ),
        _credentials,
    ),
    ((aws.SSLError,), _untrusted),
    ((aws.ProxyConnectionError,), _proxy),
    ((aws.ConnectTimeoutError, aws.ReadTimeoutError), _late),
    ((aws.EndpointConnectionError,), _unreachable),
    ((aws.ConnectionError, aws.HTTPClientError), _broken),
    (
        (
            aws.ParamValidationError,
            aws.InvalidRegionError,
            aws.EndpointProviderError,
            ResponseParserError,
            ValueError,
            RecursionError,
        ),
        _malformed,
    ),
)
