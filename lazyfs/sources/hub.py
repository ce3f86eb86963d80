"""`hf://owner/model`: models and datasets of the Hugging Face Hub, pinned to a commit.

The Hub is asked three kinds of things: which commit a revision is, what is in it (names, sizes, SHA-256), and
once for each file where it is. Large files are at another host, by a URL that is signed for a while; all
ranges of a file use the same one until it expires or is refused, for the Hub counts how often it is asked.
Small files come from the Hub itself.
"""

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from lazyfs.core.blob import BlobRef
from lazyfs.core.layout import Repository
from lazyfs.core.location import Location, comparable, expires_at_s, same_etag
from lazyfs.core.origin import below, hub_place, is_older
from lazyfs.errors import AccessDenied, BadResponse, BlobChanged, SourceMissing, UsageError
from lazyfs.sources.base import Access
from lazyfs.sources.hub_address import HubAddress, parse
from lazyfs.sources.hub_answers import missing_path
from lazyfs.sources.hub_client import OK, REDIRECTS, REDIRECTS_MAX, Answer, HubClient, target_of

log = logging.getLogger(__name__)

SMALL_BYTES = 8 << 20
"""Up to here a file is one block, and so one request. Few are larger: those belong elsewhere than in git."""

ENTRIES_MAX = 100_000
PAGES_MAX = 1000
"""Ten times what so many entries take: the Hub's pages have 1000."""

_COMMIT = re.compile(r"[0-9a-f]{40,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LINK = re.compile(r"<([^>]+)>([^<]*)", re.ASCII)
_NEXT = re.compile(r""";\s*rel\s*=\s*["']?[^"';,]*\bnext\b""", re.ASCII | re.IGNORECASE)
_GONE = {404, 410}
_LINKED = {"x-linked-size", "x-linked-etag"}
"""Headers that only a redirect to the storage has."""
_RESOLVER = "/resolve/"


def connect(address: str, access: Access) -> "HubSource":
    """Return the source of an `hf://` address.

    Raises:
        UsageError: when the address names no repository, or the endpoint is no URL.
        SourceUntrusted: when the CA bundle cannot be read.

    """
    return HubSource(parse(address), access)


class HubSource:
    """The files of a repository below a path, or one file, as they were at one commit."""

    def __init__(self, address: HubAddress, access: Access) -> None:
        self._address = address
        self._client = HubClient(address, access)
        # Neither the revision nor where the mount begins: it is the same file by whatever address.
        self.place = hub_place(self._client.endpoint, address.kind, address.name)
        """What the origin of each file begins with; its quoted path follows."""
        self._commit, self._directory = "", address.path
        self._asked: dict[str, Location] = {}
        """Locations that listing had to ask for, by origin; each is given out once."""
        self._given: set[str] = set()
        """Small files whose location was given out, by origin."""

    # -- what there is -------------------------------------------------------------------------------

    def list(self) -> Iterator[BlobRef]:
        """Yield every file below the address's path, or the one file it names; see `Source.list`."""
        described, _ = self._client.document(
            self._client.url(self._address.api("revision", self._address.revision or "main"))
        )
        try:
            commit, restricted = described["sha"], bool(described.get("gated") or described.get("private"))
        except (KeyError, TypeError, AttributeError):
            raise self._client.not_hub() from None
        if not isinstance(commit, str) or _COMMIT.fullmatch(commit) is None:
            raise self._client.not_hub()
        self._commit = commit
        blobs = list(self._selected(commit, _modified_ns(described.get("lastModified"))))
        self._require_all(described.get("siblings"), {blob.name for blob in blobs})
        if not blobs:
            raise missing_path(self._address, self._client.endpoint)
        if restricted:
            # The Hub lists what it will not give: that must show now, not when somebody reads.
            first = max(blobs, key=lambda blob: blob.size_bytes)
            self._asked[first.origin] = self._ask(first)
        log.info("hub_revision repository=%r commit=%s", self._address.name, commit)
        yield from blobs

    def _require_all(self, siblings: Any, listed: set[str]) -> None:
        """Refuse a tree without files that the description of the commit names: its pages were cut.

        Only a Link header says that another page follows, and what is in between may drop it.
        """
        below = f"{self._address.path}/" if self._address.path else ""
        said = [one.get("rfilename") for one in siblings or () if isinstance(one, dict)]
        named = [name for name in said if isinstance(name, str)]
        lacking = [name for name in named if name.startswith(below) and name[len(below) :] not in listed]
        if lacking:
            raise BadResponse(
                f"{self._client.endpoint} lists {len(listed)} files, and not {lacking[0]!r}, which it has",
                "check HF_ENDPOINT: what is in between may drop the Link header of pages",
            )

    def _selected(self, commit: str, modified_ns: int) -> Iterator[BlobRef]:
        """Yield what the address's path names: the file of that name, or those below it."""
        path = self._address.path
        below = f"{path}/" if path else ""
        for entry in self._entries(commit):
            name = str(entry["path"])
            if name == path:
                self._directory = name.rpartition("/")[0]
                yield self._blob(entry, name.rpartition("/")[2], commit, modified_ns)
            elif name.startswith(below):
                yield self._blob(entry, name[len(below) :], commit, modified_ns)

    def _entries(self, commit: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of files, page by page: of the path's directory; of its parent if it is none."""
        path = self._address.path
        below = self._pages(commit, path, recursive="true")
        try:
            first = next(below, None)
        except SourceMissing:
            if not path:
                raise
            first = None
        if first is not None:
            yield first
            yield from below
        elif path:
            yield from self._pages(commit, path.rpartition("/")[0], recursive="false")

    def _pages(self, commit: str, path: str, *, recursive: str) -> Iterator[dict[str, Any]]:
        where = self._address.api("tree", commit, path)
        url: str | None = self._client.url(f"{where}?recursive={recursive}&expand=false")
        seen, count = set[str](), 0
        while url is not None:
            if url in seen or len(seen) >= PAGES_MAX:
                raise BadResponse(f"{self._client.endpoint} lists pages without end", "check HF_ENDPOINT")
            seen.add(url)
            page, headers = self._client.document(url)
            if not isinstance(page, list):
                raise self._client.not_hub()
            count += len(page)
            if count > ENTRIES_MAX:
                what = f"{self._address.what} has more than {ENTRIES_MAX} entries"
                raise UsageError(what, "name a directory of it, like hf://owner/model/directory")
            for entry in page:
                if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
                    raise self._client.not_hub()
                if entry.get("type") == "file":
                    yield entry
            following = _next(headers.get("Link", ""))
            url = None if following is None else urljoin(url, following)

    def _blob(self, entry: dict[str, Any], name: str, commit: str, modified_ns: int) -> BlobRef:
        """Return the blob of an entry of the tree, as https://huggingface.co/docs/hub/api describes it."""
        large = entry.get("lfs") or {}
        if not isinstance(large, dict):
            raise self._client.not_hub()
        size_bytes, sha256, oid = large.get("size", entry.get("size")), large.get("oid"), entry.get("oid")
        if type(size_bytes) is not int or size_bytes < 0 or not isinstance(oid, str):
            raise self._client.not_hub()
        if sha256 is not None and _SHA256.fullmatch(str(sha256)) is None:
            raise self._client.not_hub()
        origin = self.place + quote(entry["path"])
        digest = None if sha256 is None else f"sha256:{sha256}"
        return BlobRef(name, origin, oid, size_bytes, digest, modified_ns, commit)

    def repository(self) -> Repository:
        """Return which repository and commit was listed; see `Versioned.repository`."""
        address = self._address
        named = address.name, self._commit, address.revision or "main"
        return Repository(*named, kind=address.kind.removesuffix("s"), directory=self._directory)

    def renamed(self, blob: BlobRef) -> BlobRef:
        """Return a blob that an older version listed with its origin as it is now; see `Renaming`."""
        if not is_older(blob.origin):
            return blob
        address, endpoint = self._address, self._client.spelled.partition("://")[2]
        path = below(blob.origin, f"hf://{endpoint}/{address.kind}/{address.name}/")
        return replace(blob, origin=self.place + path)

    # -- where it is ---------------------------------------------------------------------------------

    def locate(self, blob: BlobRef) -> Location:
        """Return where the blob is: a signed URL of a large file, the Hub's own of a small one.

        The Hub sends small ones when it is asked where they are: asking before would be asking twice. Who
        wants to know it again was refused there, perhaps for a token that has been renewed since.
        """
        blob = self.renamed(blob)
        path = self._path(blob)
        if blob.digest is None and blob.size_bytes <= SMALL_BYTES:
            if blob.origin in self._given:
                self._client.renewed()
            self._given.add(blob.origin)
            return self._here(self._client.url(path), blob)
        return self._asked.pop(blob.origin, None) or self._ask(blob)

    def _path(self, blob: BlobRef) -> str:
        name = unquote(below(blob.origin, self.place))
        return self._address.file(blob.revision or "main", name)

    def _ask(self, blob: BlobRef) -> Location:
        """Ask the Hub where a file is."""
        answer = self._client.head(self._path(blob))
        for _ in range(REDIRECTS_MAX):
            self._check(answer, blob)
            if answer.status == OK:
                return self._here(answer.url, blob)
            if blob.digest is None and self._client.ours(target_of(answer)):
                return self._here(target_of(answer), blob)
            if self._to_storage(answer):
                return self._there(answer)
            answer = self._client.follow(answer)  # the repository has another name, or it is another Hub
        raise BadResponse(f"{self._client.endpoint} redirects in a circle")

    def _to_storage(self, answer: Answer) -> bool:
        """Tell whether a redirect leads to the storage; others lead to another place of the Hub, or another.

        Mirrors and registries leave the headers out, and what is signed for GET refuses to be asked by HEAD.
        """
        target = target_of(answer)
        linked = bool(_LINKED & {name.lower() for name in answer.headers})
        return linked or not (self._client.ours(target) or _RESOLVER in urlsplit(target).path)

    def _check(self, answer: Answer, blob: BlobRef) -> None:
        """Raise unless the answer is about the pinned version."""
        if answer.status in _GONE:
            raise BlobChanged(
                f"{self._address.what} has no {blob.name} at commit {blob.revision} any more",
                "it was deleted, or its history rewritten; mount or pull again to get what is there now",
            )
        if answer.status != OK and answer.status not in REDIRECTS:
            error = self._client.refused(answer)
            # It was listed: if it is not shown any more, it may not be read.
            raise AccessDenied(error.cause, error.cure) if isinstance(error, SourceMissing) else error
        told = answer.headers
        pinned = blob.version if blob.digest is None else blob.digest.removeprefix("sha256:")
        linked = told.get("X-Linked-ETag", pinned)
        same = (
            told.get("X-Repo-Commit", blob.revision) == blob.revision
            and (same_etag(linked, pinned) or (blob.digest is None and not comparable(linked, pinned)))
            and told.get("X-Linked-Size", str(blob.size_bytes)) == str(blob.size_bytes)
        )
        if not same:
            raise BlobChanged(f"{self._client.endpoint} says of another version where {blob.name} is")

    def _here(self, url: str, blob: BlobRef) -> Location:
        """Return the location of a file that the Hub sends itself; its ETag is the blob's id.

        Mirrors send others, or have the file at a storage that does: the commit in the URL pins it.
        """
        version = blob.version if blob.digest is None else None
        return Location(url, self._client.headers(url), version=version, loose=True)

    def _there(self, answer: Answer) -> Location:
        """Return the location of a file at the storage. Its ETags are its own; the URL names the content."""
        url = target_of(answer)
        expires = expires_at_s(url)
        if expires is not None:
            # By the clock that signed, which is near the Hub's, not by ours.
            expires += answer.asked_at_s - _told_s(answer)
        return Location(url, self._client.headers(url), expires, redirected=True)

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()


def _told_s(answer: Answer) -> float:
    """Return the Hub's time when it answered, in seconds since the epoch; ours if it does not say."""
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return time.time()


def _next(header: str) -> str | None:
    """Return where a Link header (RFC 8288) says the next page is, whatever else it says."""
    return next((target for target, said in _LINK.findall(header) if _NEXT.search(said)), None)


def _modified_ns(text: object) -> int:
    """Return the time of an ISO 8601 text in nanoseconds since the epoch; 0 if it is none."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1e9)
    except ValueError:
        return 0
