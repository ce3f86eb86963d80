"""What a web server's page about a directory lists: nginx's JSON, or the HTML of nginx, Apache, Python. Pure.

A page is taken for an index only when it says that it is one: JSON as nginx's `autoindex_format json` writes
it, or HTML whose title begins with "Index of" (nginx, Apache's mod_autoindex in all its forms) or "Directory
listing for" (`python -m http.server`). A page of links is not enough: it might be anybody's.

Of an HTML index only the links are read, for the sizes and times beside them are rounded. A link is an entry
when it leads, on the same server, to something directly below the directory: so sort links (`?C=N;O=D`), the
parent, and whatever a theme adds are none. Each is decoded once; what is not a file name then (`..%2f..`) is
an entry all the same, for the manifest to refuse, and is never asked for.
"""

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote_from_bytes, unquote_to_bytes, urljoin, urlsplit

from lazyfs.core.origin import same_server
from lazyfs.errors import BadIndex

_TITLE = re.compile(r"\s*(index of|directory listing for)\b", re.IGNORECASE)
UNRESERVED = "!$&'()*+,;=:@~"
"""What may stand in a segment of a path as it is (RFC 3986, 3.3), beside letters, digits and `-._`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory, decoded; one of a directory has others below it.

    `segment` is the name as it stands in a URL: what it leads to is asked for by that.
    """

    name: str
    segment: str
    is_directory: bool


def entries(body: bytes, url: str, content_type: str = "") -> tuple[Entry, ...]:
    """Return what the index at `url`, which ends with `/`, lists: each name once, in the page's order.

    Raises:
        BadIndex: when the page is no index; never another exception.

    """
    if content_type.partition(";")[0].strip().lower() == "application/json" or body[:1] == b"[":
        found = _of_json(body)
    else:
        found = _of_html(body, url)
    return tuple({entry.name: entry for entry in found}.values())


def _of_json(body: bytes) -> list[Entry]:
    try:
        listed = json.loads(body.decode("utf-8", "surrogateescape"))  # nginx writes names as they are
    except (ValueError, RecursionError) as error:
        raise BadIndex(f"not JSON: {error}") from None
    if not isinstance(listed, list):
        raise BadIndex("not nginx's JSON")
    found = []
    for item in listed:
        name, kind = (item.get("name"), item.get("type")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or kind not in {"file", "directory", "other"}:
            raise BadIndex("not nginx's JSON")
        if kind != "other":  # a socket, a device
            found.append(Entry(name, segment_of(name), kind == "directory"))
    return found


def segment_of(name: str) -> str:
    """Return a name as it stands in a URL."""
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # from JSON: no file has such a name, and the manifest says so
        encoded = name.encode("utf-8", "replace")
    return quote_from_bytes(encoded, safe=UNRESERVED)


class _Links(HTMLParser):
    """The title of a page, and where its links lead."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.links: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def _of_html(body: bytes, url: str) -> list[Entry]:
    page = _Links()
    try:
        page.feed(body.decode("utf-8", "surrogateescape"))
        page.close()
    except (ValueError, AssertionError) as error:  # what html.parser raises for some malformed declarations
        raise BadIndex(f"not HTML: {error}") from None
    if _TITLE.match(page.title) is None:
        raise BadIndex("the page does not say that it is an index of a directory")
    return [entry for link in page.links if (entry := _below(url, link)) is not None]


def _below(url: str, link: str) -> Entry | None:
    """Return the entry a link stands for; None when it does not lead directly below `url`."""
    # A stray byte of a name that is no UTF-8 stands in the link as it is, and belongs into it encoded.
    link = quote_from_bytes(link.encode("utf-8", "surrogateescape"), safe="%/?#[]" + UNRESERVED)
    try:
        target, root = urlsplit(urljoin(url, link)), urlsplit(url)
    except ValueError:  # an address that cannot be
        return None
    ours = target[:2] == root[:2] or same_server(target.geturl(), url)
    at = _depth_end(target.path, root.path.count("/"))
    # However either of them is encoded.
    if not ours or target.query or unquote_to_bytes(target.path[:at]) != unquote_to_bytes(root.path):
        return None
    segment, slash, deeper = target.path[at:].partition("/")
    name = unquote_to_bytes(segment).decode("utf-8", "surrogateescape")
    return None if not segment or deeper else Entry(name, segment, bool(slash))


def _depth_end(path: str, depth: int) -> int:
    """Return where the first `depth` slashes of a path end; 0 if it has not so many."""
    at = -1
    for _ in range(depth):
        at = path.find("/", at + 1)
        if at < 0:
            break
    return at + 1
