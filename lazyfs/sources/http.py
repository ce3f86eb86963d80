"""`https://host/directory/` or one file, `http://` too: whatever serves files, and says which there are.

What there is comes from `lazyfs.json`, or from the indexes the server makes of its directories
(`http_listing.py`). Every file is then asked for by HEAD: sizes in indexes are rounded, and only its headers
pin it (`core/webpin.py`). Nothing else is guessed: a server that does not say how long a file is, or nothing
by which one version differs from the next, cannot be mounted.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from lazyfs.core.blob import BlobRef
from lazyfs.core.location import Location, expires_at_s, same_etag
from lazyfs.core.origin import below, server
from lazyfs.core.publication import FILE_NAME, Publication, Published, Unmet, with_digests
from lazyfs.core.webindex import UNRESERVED
from lazyfs.core.webpin import codings, epoch_s, just_written, pin, read
from lazyfs.errors import (
    AccessDenied,
    BadPublication,
    BlobChanged,
    LazyfsError,
    SourceMissing,
    UnfinishedPublication,
    UsageError,
)
from lazyfs.sources.base import Access
from lazyfs.sources.http_access import PASSWORD, USER, Askers, authorization, refusal, shown
from lazyfs.sources.http_listing import Listed, publication, published, walk
from lazyfs.transport.asking import Answer
from lazyfs.transport.exchange import same_host
from lazyfs.transport.wanted import AGAIN

log = logging.getLogger(__name__)

THREADS = 16
"""So many files are asked for at once: a model has dozens to hundreds."""
AGAIN_AFTER_S = 1.1
"""A file written in this very second is asked for again in the next one."""


def connect(address: str, access: Access) -> "HttpSource":
    """Return the source of an `https://host/path` address.

    Raises:
        UsageError: when it cannot be one, or holds what cannot be kept secret.
        AccessDenied: when the credentials for it cannot be used.

    """
    wrong = UsageError("that is not the URL of a file or a directory", "write it like https://host/models/m/")
    try:
        url = urlsplit(address)
        # It is asked by the very name that stands in the origins.
        netloc = server(address).partition("://")[2]
    except ValueError:
        raise wrong from None
    if "@" in url.netloc:
        raise UsageError(
            f"the address of {url.hostname} holds a password, and everybody can see it in ps and in the log",
            f"set {USER} and {PASSWORD}, or put it into ~/.netrc",
        )
    if url.query or url.fragment:
        raise UsageError(
            f"the address {shown(url)} has a query or a fragment",
            "a signature in it could not be kept secret; '?' and '#' in a name are written %3F and %23",
        )
    path = quote(url.path, safe="%/" + UNRESERVED) or "/"
    known = {} if access.anonymous else authorization(url.hostname or "", os.environ)
    return HttpSource(url._replace(netloc=netloc, path=path), known)


class HttpSource:
    """The files below a directory of a web server, or one file."""

    def __init__(self, root: SplitResult, credentials: dict[str, str]) -> None:
        self._root = root
        self.place = f"{root.scheme}://{root.netloc}/"
        """What the origin of each file begins with."""
        self._askers = Askers(root, credentials)
        self._direct: dict[str, bool] = {}
        """Of the URLs that redirect nowhere, whether ranges of them are served."""
        self._ranges: dict[str, bool] = {}
        """Whether ranges are served, by host, where one file had to be read to tell."""
        self._unmet = Unmet()

    def list(self) -> Iterator[BlobRef]:
        """Yield every file below the directory, or the one the address names; see `Source.list`."""
        with ThreadPoolExecutor(THREADS) as threads:
            try:
                yield from self._listed(threads)
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def _listed(self, threads: ThreadPoolExecutor) -> Iterator[BlobRef]:
        root, alone = self._root, None
        if not root.path.endswith("/"):
            answer = self._askers.probe(root)
            if not answer.url.path.endswith("/"):
                alone = refusal(answer, root)
                if alone is None:
                    yield from self._pinned([(Listed(_last(root.path), root), answer)], threads)
                    return
                if not isinstance(alone, SourceMissing | AccessDenied):
                    raise alone
            led = answer.url.path.endswith("/") and same_host(answer.url, root)
            # By its own name, however the server calls itself.
            led_to = answer.url._replace(netloc=root.netloc, query="")
            root = led_to if led else root._replace(path=f"{root.path}/")
        yield from self._below(root, threads, alone)

    def _below(
        self, root: SplitResult, threads: ThreadPoolExecutor, alone: LazyfsError | None
    ) -> Iterator[BlobRef]:
        """Yield the files of a directory; raise `alone` if it is none: what was said of it as a file."""
        found, unusable = self._publication(root, alone)
        if found is None and alone is not None:
            raise alone
        listed = published(found, root) if found is not None else self._indexed(root, threads, unusable)
        hostile = [BlobRef(entry.name, shown(root), "", 0) for entry in listed if entry.url is None]
        blobs = list(self._pinned(self._probed(listed, threads), threads))
        if not blobs and not hostile:
            raise SourceMissing(f"there are no files at {shown(root)}", "check the address")
        yield from hostile
        yield from blobs if found is None else self._with_digests(found, blobs)

    def _with_digests(self, found: Publication, blobs: Sequence[BlobRef]) -> Sequence[BlobRef]:
        """Give the blobs the digests of the publication, where it still speaks of them."""
        known, stale = with_digests(found, blobs, _same)
        if stale:
            log.warning("publication_stale files=%d first=%r", len(stale), stale[0])
        self._unmet = Unmet(tuple(stale))
        return known

    def unmet(self) -> Unmet:
        """See `Claimed.unmet`."""
        return self._unmet

    def _publication(
        self, root: SplitResult, alone: LazyfsError | None
    ) -> tuple[Publication | None, BadPublication | None]:
        """Return the publication, or None when the indexes count, and what is wrong with it."""
        try:
            return publication(self._askers, root), None
        except UnfinishedPublication:
            # Its files are replaced now, or were in part: which is which, no index tells.
            raise
        except BadPublication as error:
            if alone is not None:
                raise SourceMissing(error.cause, error.cure) from None
            log.warning("publication_unusable error=%r", str(error))
            return None, error

    def _indexed(
        self, root: SplitResult, threads: ThreadPoolExecutor, unusable: BadPublication | None
    ) -> Sequence[Listed]:
        """Return what the indexes list; without any, what was wrong with the publication is said too."""
        try:
            return [entry for entry in walk(self._askers, root, threads) if entry.name != FILE_NAME]
        except SourceMissing as error:
            if unusable is None:
                raise
            raise SourceMissing(
                f"{unusable.cause}; and {error.cause}", f"{unusable.cure}; or {error.cure}"
            ) from None

    def _probed(
        self, listed: Iterable[Listed], threads: ThreadPoolExecutor
    ) -> Sequence[tuple[Listed, Answer]]:
        """Ask for every file; those that are listed and not there are left out."""
        wanted = [(entry, entry.url) for entry in listed if entry.url is not None]
        answers = threads.map(self._askers.probe, [url for _, url in wanted])
        found = []
        for (entry, url), answer in zip(wanted, answers, strict=True):
            error = refusal(answer, url)
            if isinstance(error, SourceMissing):
                log.warning("entry_missing name=%r", entry.name)
            elif error is not None:
                raise error
            else:
                found.append((entry, answer))
        return found

    def _pinned(
        self, found: Iterable[tuple[Listed, Answer]], threads: ThreadPoolExecutor
    ) -> Iterator[BlobRef]:
        """Yield the blobs of files that were asked for; of those just written, a second later."""
        known, fresh = [], []
        for entry, answer in found:
            if just_written(answer.headers):
                fresh.append(entry)
            else:
                known.append((entry, answer))
        if fresh:
            time.sleep(AGAIN_AFTER_S)
            known += self._probed(fresh, threads)
        # The smallest first: if a byte of one must be asked for, all of it may come.
        for entry, answer in sorted(known, key=lambda pair: pair[1].size_bytes or 0):
            yield self._blob(entry, answer)

    def _blob(self, entry: Listed, answer: Answer) -> BlobRef:
        assert entry.url is not None
        where, size_bytes, found = shown(entry.url), answer.size_bytes, pin(answer.headers)
        coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if coding != "identity" and coding not in codings(entry.name):
            raise LazyfsError(
                f"{where} is compressed ({coding[:20]!r}) though it was asked for as it is",
                "serve the weights without Content-Encoding",
            )
        if size_bytes is None:
            raise LazyfsError(f"the server does not say how long {where} is", "serve it as a static file")
        if found is None:
            raise LazyfsError(
                f"{where} cannot be pinned: the server sends neither ETag nor Last-Modified",
                "serve it as a static file",
            )
        origin = entry.url.geturl()
        ranges = self._serves_ranges(answer, size_bytes)
        if answer.url == entry.url:
            self._direct[origin] = ranges
        modified_s = epoch_s(answer.headers.get("Last-Modified", "")) or 0.0
        return BlobRef(entry.name, origin, found.version, size_bytes, modified_ns=int(modified_s) * 10**9)

    def _serves_ranges(self, answer: Answer, size_bytes: int) -> bool:
        """Tell whether the server sends ranges; where it does not say, by asking for one, once a host."""
        host = answer.url.netloc
        if answer.ranges is not None or not size_bytes:
            return answer.ranges is not False
        if host not in self._ranges:
            self._ranges[host] = self._askers.byte(answer).ranges is not False
        return self._ranges[host]

    def locate(self, blob: BlobRef) -> Location:
        """Return the file's URL, or where that redirects to, so that not every range goes that way."""
        wanted = read(blob.version)
        below(blob.origin, self.place)
        url, ranges, headers = urlsplit(blob.origin), self._direct.get(blob.origin), {}
        redirected, expires_s = False, None
        if ranges is None:
            answer = self._askers.probe(url)
            error = refusal(answer, url)
            if isinstance(error, SourceMissing):
                raise BlobChanged(error.cause, AGAIN)
            if error is not None:
                raise error
            ranges = self._serves_ranges(answer, blob.size_bytes)
            redirected = answer.url != url
            if redirected:
                url, headers = answer.url, dict(answer.sent)
                expires_s = expires_at_s(url.geturl())
            else:
                self._direct[blob.origin] = ranges
        return Location(
            url.geturl(),
            {**(headers if redirected else self._askers.headers(url)), **wanted.conditions},
            expires_s,
            wanted.etag,
            wanted.modified,
            proven=True,
            codings=codings(blob.name),
            ranges=ranges,
            redirected=redirected,
        )

    def close(self) -> None:
        """Close the connections."""
        self._askers.close()


def _last(path: str) -> str:
    """Return the name of the file at a path."""
    return unquote_to_bytes(path.rpartition("/")[2]).decode("utf-8", "surrogateescape")


def _same(claim: Published, blob: BlobRef) -> bool:
    """Tell whether a file is the one a claim is about: by its ETag, else by its time in whole seconds.

    A claim with neither counts for a file of its size. Nobody believes a digest before the bytes were hashed
    (docs/adr/0014), and what a web server says of a file is often not known to whoever published it.
    """
    etag = read(blob.version).etag
    if claim.etag is not None and etag is not None:
        return same_etag(claim.etag, etag)
    if claim.modified_ns is not None and blob.modified_ns:
        return claim.modified_ns // 10**9 == blob.modified_ns // 10**9
    return True
