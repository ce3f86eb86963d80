"""Where a blob's bytes are, for the transport: what a source says of a blob, for a while."""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

MARGIN_MAX_S = 60.0
MARGIN_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Location:
    """A URL with what must be sent along and what must come back.

    `url` and `headers` may hold a signature or a token, so they are never shown. `expires_at_s` is seconds
    since the epoch; `version` is what the reply's ETag (for `file:` URLs, `file_version`) must equal, None
    when the source cannot say.

    For sources that are not sure of their server: `modified` is what Last-Modified must equal; with `proven`
    a reply that lacks what pins it is not taken (without, the server is trusted to have obeyed If-Match);
    `codings` are the Content-Encodings under which the bytes are those of the object, None when those of a
    part always are; `ranges` is False when the server is known to send the whole object whatever is asked;
    `redirected` says that a redirect led there, so what is gone there may only have moved or expired.

    `loose` is for an object that its URL pins already: an ETag of another form than `version` is then taken
    for one that the server, or the storage behind it, has made up for itself, and says nothing.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires_at_s: float | None = None
    version: str | None = None
    modified: str | None = None
    proven: bool = False
    codings: frozenset[str] | None = None
    ranges: bool = True
    redirected: bool = False
    loose: bool = False

    def fresh(self, now_s: float, margin_s: float) -> bool:
        """Tell whether the location will still be good `margin_s` after `now_s` (epoch seconds)."""
        return self.expires_at_s is None or now_s + margin_s < self.expires_at_s


def margin_s(lifetime_s: float) -> float:
    """Return how long before it expires a location that lives so long should be renewed, in seconds.

    A request must arrive before it expires; a reply that has begun goes on after it. So a minute is plenty;
    of a short life it is a fifth: with more, a location might never count as fresh.
    """
    return min(MARGIN_MAX_S, MARGIN_SHARE * max(0.0, lifetime_s))


def expires_at_s(url: str) -> float | None:
    """Return when a signed URL expires, in seconds since the epoch by its signer's clock; None if unsaid.

    AWS (Signature Version 4, "Authenticating Requests: Using Query Parameters") and Google (V4 signing) say
    X-Amz-Date and X-Amz-Expires; CloudFront and older S3, Expires; Azure (shared access signatures), se.
    """
    said = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    for signer in ("x-amz", "x-goog"):
        began, lifetime = said.get(f"{signer}-date", ""), said.get(f"{signer}-expires", "")
        began_at_s = _epoch_s(began)
        if began_at_s is not None and _SECONDS.fullmatch(lifetime):
            return began_at_s + float(lifetime)
    if _SECONDS.fullmatch(said.get("expires", "")):
        return float(said["expires"])
    return _epoch_s(said["se"]) if "se" in said and "sig" in said else None


_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def _epoch_s(text: str) -> float | None:
    """Return the seconds since the epoch of an ISO 8601 time; None when it is not one."""
    try:
        return float(calendar.timegm(datetime.fromisoformat(text).utctimetuple()))
    except ValueError:
        return None


def file_version(modified_ns: int, size_bytes: int) -> str:
    """Return what pins a local file: its modification time and size."""
    return f"{modified_ns}-{size_bytes}"


def same_etag(one: str, other: str) -> bool:
    """Compare two ETags, quoted or not. A weak one (`W/`) matches its strong form: some proxies weaken."""
    return _bare(one) == _bare(other)


def comparable(one: str, other: str) -> bool:
    """Tell whether two ETags may be made in the same way: a git id, a SHA-256 and an MD5 differ in length."""
    return len(_bare(one)) == len(_bare(other))


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')
