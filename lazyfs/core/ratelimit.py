"""When a server that answered 429 or 503 wants to be asked again. Pure."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_SPENT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*0\s*;\s*t\s*=\s*([0-9]{1,9})\b', re.ASCII)
ROUNDED_S = 1.0
"""Whole seconds may have been rounded down."""


def wait_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds to wait, by the reply's headers; None when they do not say. `now_s` is of the epoch.

    `RateLimit: "resolvers";r=0;t=55` (draft-ietf-httpapi-ratelimit-headers), as the Hugging Face Hub says it,
    goes before Retry-After, which proxies add. With something left (r) it is not why the request was refused.
    """
    said = {name.lower(): value for name, value in headers.items()}
    spent = _SPENT.search(said.get("ratelimit", ""))
    if spent is not None:
        return float(spent[1]) + ROUNDED_S
    return retry_after_s(said.get("retry-after", ""), now_s)


def retry_after_s(text: str, now_s: float) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None for neither."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return None
