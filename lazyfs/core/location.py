"""Where a blob's bytes are, for the transport: what a source says of a blob, for a while."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Location:
    """A URL with what must be sent along and what must come back.

    `url` and `headers` may hold a signature or a token, so they are never shown. `expires_at_s` is seconds
    since the epoch; `version` is what the reply's ETag (for `file:` URLs, `file_version`) must equal, None
    when the source cannot say.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires_at_s: float | None = None
    version: str | None = None

    def fresh(self, now_s: float, margin_s: float) -> bool:
        """Tell whether the location will still be good `margin_s` after `now_s` (epoch seconds)."""
        return self.expires_at_s is None or now_s + margin_s < self.expires_at_s


def file_version(modified_ns: int, size_bytes: int) -> str:
    """Return what pins a local file: its modification time and size."""
    return f"{modified_ns}-{size_bytes}"


def same_etag(one: str, other: str) -> bool:
    """Compare two ETags, quoted or not. A weak one (`W/`) matches its strong form: some proxies weaken."""
    return one.removeprefix("W/").strip('"') == other.removeprefix("W/").strip('"')
