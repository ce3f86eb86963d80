"""Signed URLs, as the Hub makes them and the storage reads them: good for one object, and for a while."""

import calendar
import hashlib
import hmac
import time
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

SECRET = b"of the storage"
TIME = "%Y%m%dT%H%M%SZ"


def _signature(path: str, expires_at_s: float) -> str:
    return hmac.new(SECRET, f"{path} {expires_at_s:.3f}".encode(), hashlib.sha256).hexdigest()


def sign(base: str, path: str, expires_s: float, style: str) -> str:
    """Return a URL that is good for `expires_s`, as S3 or CloudFront make them, or one that does not say."""
    now_s = time.time()
    if style == "s3":  # whole seconds; never less than asked for
        expires_at_s = float(int(now_s) + max(1, round(expires_s)))
        said = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"cas/{time.strftime('%Y%m%d')}/us-east-1/s3/aws4_request",
            "X-Amz-Date": time.strftime(TIME, time.gmtime(now_s)),
            "X-Amz-Expires": str(int(expires_at_s) - int(now_s)),
            "X-Amz-Signature": _signature(path, expires_at_s),
            "X-Amz-SignedHeaders": "host",
            "x-id": "GetObject",
        }
    elif style == "cloudfront":
        expires_at_s = float(int(now_s + expires_s))
        said = {"Expires": f"{expires_at_s:.0f}", "Policy": "eyJTdGF0ZW1lbnQiOltdfQ__",
                "Signature": _signature(path, expires_at_s), "Key-Pair-Id": "K3RPWS32NSSJCE"}  # fmt: skip
    else:
        expires_at_s = now_s + expires_s
        # Nothing of it says when: the time is in the signature.
        said = {"sig": f"{_signature(path, expires_at_s)}{int(expires_at_s * 1000):x}"}
    return f"{base}{quote(path)}?{urlencode(said)}"


def refusal(target: str) -> str | None:
    """Return the storage's error code for a URL it does not honour; None for one that is good now."""
    url = urlsplit(target)
    said = dict(parse_qsl(url.query))
    try:
        if "X-Amz-Date" in said:
            expires_at_s = calendar.timegm(time.strptime(said["X-Amz-Date"], TIME)) + float(
                said["X-Amz-Expires"]
            )
            given = said["X-Amz-Signature"]
        elif "Expires" in said:
            expires_at_s, given = float(said["Expires"]), said["Signature"]
        else:
            given, expires_at_s = said["sig"][:64], int(said["sig"][64:], 16) / 1000
    except (KeyError, ValueError):
        return "AccessDenied"
    if not hmac.compare_digest(given, _signature(url.path, expires_at_s)):
        return "SignatureDoesNotMatch"
    return "AccessDenied" if time.time() >= expires_at_s else None
