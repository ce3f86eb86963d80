"""Whose credentials S3 is asked with: botocore's chain, and what its troubles mean to a user.

The chain reads files, runs programs, and asks others (STS, SSO, a container's or a machine's endpoint) with
clients of its own. Whatever goes wrong there is about the identity and not about a bucket, so it is told
apart here, at the one place where both botocore's clients and our code get credentials from.
"""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from botocore import exceptions as aws

from lazyfs.core.s3_refusals import Passing
from lazyfs.errors import (
    AccessDenied,
    ClockSkewed,
    CredentialsExpired,
    CredentialsInvalid,
    LazyfsError,
    SourceThrottled,
    SourceUnavailable,
    SourceUntrusted,
)
from lazyfs.sources.s3_errors import SERVER_ERROR, host_of, one_line, refusal_of

_SIGN_IN = "sign in again: `aws sso login`, with --profile if AWS_PROFILE names one"
_SHOWN = (
    "renew the token that AWS_WEB_IDENTITY_TOKEN_FILE (or the profile's web_identity_token_file) names, or"
    " the keys that the role is assumed with"
)
_CONFIGURATION = "correct AWS_PROFILE, or the profile in ~/.aws/config (AWS_CONFIG_FILE)"
_FILES = (
    "check AWS_WEB_IDENTITY_TOKEN_FILE and the files the profile names; as --user, that user must be able to"
    " read them"
)
_WAY = (
    "check the network, the proxies, the region, and AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL_SSO or"
    " AWS_ENDPOINT_URL"
)
_ELSEWHERE = (
    "AWS_ENDPOINT_URL is asked for credentials too: name the endpoint of S3 by --endpoint-url or"
    " AWS_ENDPOINT_URL_S3, or that of STS by AWS_ENDPOINT_URL_STS"
)
_GRANTS = {
    "AssumeRole": "let the role's trust policy name who assumes it, and check role_arn",
    "AssumeRoleWithWebIdentity": "let the role's trust policy name this identity, and check AWS_ROLE_ARN",
    "GetRoleCredentials": "check sso_account_id and sso_role_name of the profile",
}
_UNKNOWN = {
    "IDPRejectedClaim", "InvalidClientTokenId", "InvalidIdentityToken", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "UnauthorizedException", "UnrecognizedClientException",
}  # fmt: skip
"""What STS and SSO answer to a token or a key that they do not know, or no longer."""


class AwsIdentity:
    """Credentials for botocore's clients; says in our words why there are none."""

    def __init__(self, issued: Any) -> None:
        """`issued` are botocore's, which renews them before they expire."""
        self._issued = issued
        self.last: Any = None
        """Key, secret and token that were given out last."""
        self.method = issued.method

    def get_frozen_credentials(self) -> Any:
        """Return key, secret and token as they are now, renewed if they are about to expire.

        Raises:
            SourceUnavailable: when there were some, and whoever gives them out is away: they may come.
            LazyfsError: see `explained`.

        """
        with explained(renewing=self.last is not None):
            found = self._issued.get_frozen_credentials()
        self.last = found
        return found

    def get_deferred_property(self, name: str) -> Any:
        """Return what gives a property when a client wants it; see botocore's `Credentials`."""
        return lambda: getattr(self.get_frozen_credentials(), name)

    def life_s(self, longest_s: int) -> int:
        """Return for how many seconds they are good, up to `longest_s`.

        botocore tells whether they expire within a time, and not when.
        """
        soon = getattr(self._issued, "refresh_needed", None)
        if soon is None or not soon(longest_s):
            return longest_s
        good_s, over_s = 0, longest_s
        while over_s - good_s > 1:
            middle_s = (good_s + over_s) // 2
            good_s, over_s = (good_s, middle_s) if soon(middle_s) else (middle_s, over_s)
        return good_s


class CredentialChain:
    """botocore's chain of providers; credentials of no other come from it."""

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver

    def load_credentials(self) -> AwsIdentity | None:
        """Return the first credentials there are; None when there are none.

        Raises:
            LazyfsError: see `explained`.

        """
        with explained(renewing=False):
            found = self._resolver.load_credentials()
        return None if found is None else AwsIdentity(found)


@contextmanager
def explained(*, renewing: bool) -> Iterator[None]:
    """Turn whatever the chain raises into our errors: it lets through what files and parsers raise.

    Raises:
        AccessDenied: when an identity is refused, or the configuration is wrong.
        CredentialsInvalid: when nobody knows the identity, or has it expire.
        SourceUnavailable: when nobody answers who gives out credentials; when there were some before, also
            for whatever else may pass.

    """
    try:
        yield
    except LazyfsError:
        raise
    except Exception as error:  # noqa: BLE001 - odd files and answers raise KeyError, TypeError and others
        raise _meaning(error, renewing=renewing) from None


class _Trouble(NamedTuple):
    """What some of the chain's exceptions mean."""

    kinds: tuple[type[Exception], ...]
    ours: type[LazyfsError]
    cause: str
    cure: str
    passes: bool = False
    """Whether it may, when there were credentials before."""


# The first that fits counts: subclasses stand before what they derive from.
_TROUBLES = (
    _Trouble((aws.SSOError, aws.TokenRetrievalError), CredentialsExpired, "AWS credentials: {}", _SIGN_IN),
    _Trouble(
        (EOFError, getpass.GetPassWarning, aws.RefreshWithMFAUnsupportedError), AccessDenied,
        "the AWS profile asks for an MFA code, and there is nobody to type one",
        "use a profile without mfa_serial, as `aws sts get-session-token` gives credentials for",
    ),
    _Trouble(
        (aws.SSLError,), SourceUntrusted, "TLS with who gives out AWS credentials failed: {}",
        "set AWS_CA_BUNDLE to the CA that signed the server's certificate",
    ),
    _Trouble(
        (aws.ConnectionError, aws.HTTPClientError), SourceUnavailable, "no AWS credentials: {}", _WAY,
        passes=True,
    ),
    _Trouble((OSError,), CredentialsInvalid, "no AWS credentials: {}", _FILES, passes=True),
    _Trouble(
        (aws.CredentialRetrievalError, aws.MetadataRetrievalError, RuntimeError), AccessDenied,
        "AWS credentials: {}", "see where they come from", passes=True,
    ),
    _Trouble(
        (aws.ParamValidationError,), AccessDenied, "AWS credentials: {}",
        "check AWS_ROLE_ARN, and the token that AWS_WEB_IDENTITY_TOKEN_FILE names",
    ),
    _Trouble((Exception,), AccessDenied, "AWS credentials: {}", _CONFIGURATION),
)  # fmt: skip


def _meaning(error: Exception, *, renewing: bool) -> LazyfsError:
    if isinstance(error, aws.ClientError):
        return _answered(error)
    found = next(trouble for trouble in _TROUBLES if isinstance(error, trouble.kinds))
    if renewing and found.passes:
        return SourceUnavailable(f"AWS credentials cannot be renewed: {_cause(error)}", found.cure)
    return found.ours(found.cause.format(_cause(error)), found.cure)


def _cause(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} cannot be read: {error.strerror or one_line(error)}"
    if isinstance(error, aws.ConnectionError | aws.HTTPClientError) and "endpoint_url" in error.kwargs:
        return f"{host_of(error)}, which gives them out, does not answer"
    if isinstance(error, aws.BotoCoreError | ValueError | RuntimeError):
        return one_line(error)
    return f"what gives them out answers in another form ({type(error).__name__}: {one_line(error)})"


def _answered(error: aws.ClientError) -> LazyfsError:
    """Return the error for what STS or SSO answered."""
    refusal = refusal_of(error.response)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    asked = error.operation_name
    answer = f"{refusal.code or f'status {status}'}: {refusal.message}".rstrip(": .")
    what = f"{asked} was refused ({answer})"
    passing = refusal.passing
    if passing is Passing.THROTTLED:
        return SourceThrottled(f"no AWS credentials: {what}", "try again later")
    if passing is Passing.TROUBLE or status >= SERVER_ERROR or refusal.code == "IDPCommunicationError":
        return SourceUnavailable(f"no AWS credentials: {what}", "try again later")
    if passing is Passing.SKEWED:
        return ClockSkewed(f"no AWS credentials: {what}", "correct this machine's clock")
    if passing is Passing.EXPIRED or refusal.code in _UNKNOWN:
        return CredentialsExpired(
            f"no AWS credentials: {what}", _SIGN_IN if asked == "CreateToken" else _SHOWN
        )
    if not refusal.code:
        return AccessDenied(
            f"no AWS credentials: {what}: who was asked does not answer as AWS does", _ELSEWHERE
        )
    return AccessDenied(f"no AWS credentials: {what}", _GRANTS.get(asked, _CONFIGURATION))
