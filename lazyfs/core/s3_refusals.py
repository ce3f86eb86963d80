"""What the code of an S3 error document says: whether a refusal passes, and what has to change first. Pure.

The code decides and not the status: S3 sends many of these with 400 or 403, where others send 503. Sources:
"Error responses" in the Amazon S3 API reference, "Common Error Types" of the AWS query APIs, "Using KMS keys
with S3" (KMS errors come with a prefix, or without), and what botocore's standard mode tries again.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto


class Passing(Enum):
    """Why a refusal is not final."""

    THROTTLED = auto()
    """Too many requests: slower."""
    TROUBLE = auto()
    """The server's own trouble, or the network's."""
    EXPIRED = auto()
    """The credentials are over: others are needed."""
    SKEWED = auto()
    """This machine's clock and the server's differ: signed anew once the clock is right."""


@dataclass(frozen=True, slots=True)
class S3Refusal:
    """What an error document says."""

    code: str = ""
    message: str = ""
    region: str = ""
    """The region that the server is in, if it says that a request was signed for another."""

    @property
    def passing(self) -> Passing | None:
        """Why it will pass; None when it is final, or nobody knows."""
        found = _PASSING.get(self.code.removeprefix("KMS."))
        if found is None and self.code in _DATED and re.match(_DATED[self.code], self.message):
            return Passing.SKEWED
        return found


_THROTTLED = (
    "BandwidthLimitExceeded", "LimitExceededException", "PriorRequestNotComplete", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "SlowDown", "Throttled", "ThrottledException",
    "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
)  # fmt: skip
_TROUBLE = (
    "Busy", "DependencyTimeoutException", "InternalError", "InternalException", "InternalFailure",
    "InternalServerError", "KeyUnavailableException", "KMSInternalException", "OperationAborted",
    "RequestTimeout", "RequestTimeoutException", "ServerBusy", "ServiceFailure", "ServiceUnavailable",
)  # fmt: skip
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_SKEWED = ("RequestInTheFuture", "RequestTimeTooSkewed")
_PASSING = {
    **dict.fromkeys(_THROTTLED, Passing.THROTTLED),
    **dict.fromkeys(_TROUBLE, Passing.TROUBLE),
    **dict.fromkeys(_EXPIRED, Passing.EXPIRED),
    **dict.fromkeys(_SKEWED, Passing.SKEWED),
}
# Not compiled before one is needed: most processes never see a refusal.
_DATED = {
    "AccessDenied": r"Request has expired|Request is not (?:yet )?valid",
    "SignatureDoesNotMatch": r"Signature (?:expired|not yet current)",
}
"""What S3 says of a presigned request, and AWS of a signature, that is too old or of a time to come."""
_ELEMENT = r"<(Code|Message|Region)>([^<]{1,1000})</\1>"
_CODE = r"[A-Za-z0-9.]{1,64}"
_REGION = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def parse(document: str) -> S3Refusal:
    """Return what an S3 error document says; nothing of one that is none."""
    said = dict(reversed(re.findall(_ELEMENT, document)))  # the first of each counts
    code, region = said.get("Code", "").strip(), said.get("Region", "").strip()
    if re.fullmatch(_CODE, code) is None:
        return S3Refusal()
    message = " ".join(said.get("Message", "").split())
    return S3Refusal(code, message, region if re.fullmatch(_REGION, region) else "")
