"""What pins a file on a web server, and what its replies must look like. Pure.

* A strong ETag is sent along as If-Match, and every reply must carry it.
* A weak one never matches If-Match (RFC 9110, 13.1.1), so it is only compared; and as it promises no more
  than that two versions mean the same, Last-Modified must be the same too, where there is one. Whether it is
  marked as weak is not compared: Apache marks that of a file written a second ago, and proxies mark what they
  pass on.
* Without an ETag, Last-Modified.
* The size, always. Without either of the others nothing tells one version from the next, and the file cannot
  be pinned.

Both are often made of a time in whole seconds, so a file that was written within the second in which the
server was asked may be written to once more and look the same (RFC 9110, 8.8.2.2): it must be asked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_STRONG, _WEAK, _MODIFIED = "etag:", "weak:", "modified:"
CODINGS = {
    "gz": frozenset({"gzip", "x-gzip"}),
    "tgz": frozenset({"gzip", "x-gzip"}),
    "br": frozenset({"br"}),
    "zst": frozenset({"zstd"}),
    "Z": frozenset({"compress", "x-compress"}),
    "bz2": frozenset({"bzip2", "x-bzip2"}),
}


@dataclass(frozen=True, slots=True)
class WebPin:
    """The ETag and the Last-Modified that every reply must have, as the server writes them; None: any."""

    etag: str | None
    modified: str | None

    @property
    def version(self) -> str:
        """The pin as a `BlobRef.version`; `read` gives it back."""
        if self.etag is None:
            return f"{_MODIFIED}{self.modified}"
        if not self.etag.startswith("W/"):
            return f"{_STRONG}{self.etag}"
        return f"{_WEAK}{self.etag}" + (f" {_MODIFIED}{self.modified}" if self.modified else "")

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that have the server refuse another version."""
        return {"If-Match": self.etag} if self.etag and not self.etag.startswith("W/") else {}


def pin(headers: Mapping[str, str]) -> WebPin | None:
    """Return what pins the file that a reply with these headers is about; None when nothing does."""
    etag, modified = headers.get("ETag") or None, headers.get("Last-Modified") or None
    if etag is None and modified is None:
        return None
    return WebPin(etag, modified if etag is None or etag.startswith("W/") else None)


def read(version: str) -> WebPin:
    """Return the pin of a `WebPin.version`."""
    if version.startswith(_STRONG):
        return WebPin(version.removeprefix(_STRONG), None)
    if version.startswith(_MODIFIED):
        return WebPin(None, version.removeprefix(_MODIFIED))
    etag, _, modified = version.removeprefix(_WEAK).partition(f" {_MODIFIED}")
    return WebPin(etag, modified or None)


def just_written(headers: Mapping[str, str]) -> bool:
    """Tell whether the file was written in the very second of the reply: it may be written to again in it."""
    modified, now = epoch_s(headers.get("Last-Modified", "")), epoch_s(headers.get("Date", ""))
    return modified is not None and modified == now


def epoch_s(date: str) -> float | None:
    """Return the seconds since the epoch of an HTTP date; None when it is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def codings(name: str) -> frozenset[str]:
    """Return the Content-Encodings under which a file of this name comes as it is stored.

    Some servers say of `x.gz` that it is `x`, compressed: what they send is `x.gz` all the same. Anything
    else with an encoding is not the file.
    """
    return CODINGS.get(name.rpartition(".")[2], frozenset())
