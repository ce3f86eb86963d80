"""What there is below a directory of a web server: what `lazyfs.json` says, or else what its indexes list."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from urllib.parse import SplitResult

from lazyfs.core.manifest import refusal as name_refusal
from lazyfs.core.publication import CONTENT_BYTES_MAX, FILE_NAME, Publication, parse
from lazyfs.core.webindex import entries, segment_of
from lazyfs.errors import (
    AccessDenied,
    BadIndex,
    BadPublication,
    BadResponse,
    PageTooLong,
    SourceMissing,
    UsageError,
)
from lazyfs.sources.http_access import Askers, refusal, shown
from lazyfs.transport.asking import Answer
from lazyfs.transport.exchange import same_host

DEPTH_MAX = 16
ENTRIES_MAX = 100_000
INDEX_BYTES_MAX = 64 << 20
"""Twice what nginx and Apache write about so many files."""
_CURE = f"have it list its directories (autoindex), or put a {FILE_NAME} there (`lazyfs publish`)"


@dataclass(frozen=True, slots=True)
class Listed:
    """A file: its name below the root, and its URL; None for a name that is never asked for."""

    name: str
    url: SplitResult | None


@dataclass(frozen=True, slots=True)
class _Directory:
    url: SplitResult
    prefix: str
    depth: int


def publication(askers: Askers, root: SplitResult) -> Publication | None:
    """Return what is published at `root`, which ends with `/`; None when there is no such page.

    Raises:
        UnfinishedPublication: when what is there is being replaced.
        BadPublication: when it is there and cannot be read.
        AccessDenied: when it, and so everything, may not be read.
        LazyfsError: when the server cannot be asked.

    """
    url = root._replace(path=root.path + FILE_NAME)
    try:
        answer = askers.page(url, CONTENT_BYTES_MAX)
    except PageTooLong as error:
        raise BadPublication(
            f"{shown(url)} cannot be read: {error.cause}", "publish fewer files at one place, or remove it"
        ) from None
    if answer.status == 401:  # noqa: PLR2004 - a 403 may well be what S3 says of an object that is not there
        raise refusal(answer, url) or AssertionError
    if answer.status != 200:  # noqa: PLR2004
        return None
    if answer.body.lstrip()[:1] == b"<":
        return None  # some servers have a page for everything they do not have
    return parse(answer.body)


def published(found: Publication, root: SplitResult) -> list[Listed]:
    """Return the files of a publication."""
    return [Listed(file.name, _below(root, file.name)) for file in found.files]


def _below(root: SplitResult, name: str) -> SplitResult:
    path = "/".join(segment_of(part) for part in name.split("/"))
    return root._replace(path=root.path + path)


def walk(askers: Askers, root: SplitResult, threads: Executor) -> Iterator[Listed]:
    """Yield what the indexes at and below `root`, which ends with `/`, list.

    Raises:
        SourceMissing: when there is no index.
        UsageError: when there is more of it than a model has.
        LazyfsError: when the server cannot be asked.

    """
    level, count = [_Directory(root, "", 0)], 0

    def page(directory: _Directory) -> Answer:
        return askers.page(directory.url, INDEX_BYTES_MAX)

    while level:
        below: list[_Directory] = []
        for directory, answer in zip(level, threads.map(page, level), strict=True):
            for listed in _of_page(directory, answer, below.append):
                yield listed
                count += 1
            if count + len(below) > ENTRIES_MAX:
                raise UsageError(
                    f"{shown(root)} has more than {ENTRIES_MAX} entries", "name a directory below it"
                )
        level = below


def _of_page(
    directory: _Directory, answer: Answer, descend: Callable[[_Directory], None]
) -> Iterator[Listed]:
    """Yield the files on an index, and have its directories descended into."""
    where = shown(directory.url)
    base = _require_index(answer, directory, where)
    if _may_be_cut(answer):
        raise BadResponse(f"the index at {where} breaks off", "try again, and see the server's log")
    try:
        found = entries(answer.body, base.geturl(), answer.headers.get("Content-Type", ""))
    except BadIndex as bad:
        raise SourceMissing(f"{where} has no index: {bad.cause}", _CURE) from None
    for entry in found:
        name = directory.prefix + entry.name
        if name_refusal(name) is not None:
            yield Listed(name, None)
            continue
        url = base._replace(path=base.path + entry.segment, query="", fragment="")
        if not entry.is_directory:
            yield Listed(name, url)
        elif directory.depth >= DEPTH_MAX:
            raise UsageError(f"{where} is nested deeper than {DEPTH_MAX} directories", "is it a circle?")
        else:
            descend(_Directory(url._replace(path=f"{url.path}/"), f"{name}/", directory.depth + 1))


def _may_be_cut(answer: Answer) -> bool:
    """Tell whether a page of HTML has lost its end: without a length or chunks nothing else shows that."""
    framed = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
    html = answer.body.lstrip()[:1] == b"<"
    return html and not framed and b"</html>" not in answer.body[-1000:].lower()


def _require_index(answer: Answer, directory: _Directory, where: str) -> SplitResult:
    """Return the URL of a page that may be an index; raise when it is none."""
    error, base = refusal(answer, directory.url), answer.url
    if isinstance(error, AccessDenied):
        # What nginx and Apache say of a directory that may be read, but not listed.
        raise AccessDenied(f"{where} cannot be listed ({error.cause})", f"{error.cure}; or {_CURE}")
    if error is not None:
        raise error
    if not same_host(base, directory.url) or not base.path.startswith(directory.url.path):
        raise SourceMissing(f"{where} leads elsewhere, to {shown(base)}", "mount that address")
    return base._replace(netloc=directory.url.netloc)
