"""What the two hosts of the Hub-like server answer."""

import gzip
import json
import re
import socket
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.repository import Commit, Repository, Stored
from tests.hub.server import Asked, Hub
from tests.hub.storage import refusal, sign

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_DATE = "2026-01-02T03:04:05.000Z"


class Refused(Exception):
    """An answer that is an error, in the Hub's own words."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


class Handler(BaseHTTPRequestHandler):
    """Answers, and has each request remembered before its answer is sent."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 << 10
    place = ""

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            self.answer()

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's names

    def answer(self) -> None:
        raise NotImplementedError

    def reply(
        self, kind: str, status: int, headers: dict[str, str] | None = None, body: bytes | None = b""
    ) -> None:
        """Send the head, and the body unless it is None or was not asked for."""
        asked = Asked(self.place, kind, self.command, self.path, dict(self.headers.items()), status)
        self.hub.remember(asked)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if body is not None and "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def send_part(self, kind: str, stored: Stored, headers: dict[str, str]) -> None:
        """Send what was asked for of a file: all of it, or a range."""
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, stop, status = 0, stored.size, 200
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"} | headers
        if found and stored.size:
            start, status = int(found[1]), 206
            stop = min(stored.size, int(found[2]) + 1) if found[2] else stored.size
            if start >= stored.size:
                self.reply(kind, 416, {"Content-Range": f"bytes */{stored.size}"})
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        headers["Content-Length"] = str(stop - start)
        self.reply(kind, status, headers, None)
        if self.command == "HEAD":
            return
        if isinstance(stored.content, bytes):
            self.connection.sendall(memoryview(stored.content)[start:stop])
            return
        self.connection.settimeout(None)  # or socket.sendfile would not use sendfile(2) for all of it
        with stored.content.open("rb") as file:
            self.connection.sendfile(file, start, stop - start)


class HubHandler(Handler):
    """The Hub: API, and where files are."""

    place = "hub"

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        if self.hub.conduct.delay_s:
            time.sleep(self.hub.conduct.delay_s)
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        kind = _kind(parts)
        try:
            self._authenticate()
            self._limit(kind)
            if parts[0] == "api":
                self._api(kind, parts[1:], parse_qs(url.query))
            else:
                self._resolve(parts)
        except Refused as error:
            said = {"X-Error-Message": str(error), "Content-Type": "application/json"} | error.headers
            if error.code:
                said["X-Error-Code"] = error.code
            self.reply(kind, error.status, said, json.dumps({"error": str(error)}).encode())

    def _authenticate(self) -> None:
        """Find out who asks; a token nobody has is refused wherever it is shown."""
        given = self.headers.get("Authorization", "")
        token = given.removeprefix("Bearer ")
        self.user = self.hub.tokens.get(token)
        if given and self.user is None:
            raise Refused(401, "", "Invalid credentials in Authorization header")

    def _limit(self, kind: str) -> None:
        conduct = self.hub.conduct
        resolver = kind in {"resolve", "small"}
        share = conduct.throttled_share if resolver else conduct.throttled_api_share
        if self.hub.unlucky(share):
            bucket = "resolvers" if resolver else "api"
            raise Refused(429, "", "We had to rate limit you", {
                "RateLimit": f'"{bucket}";r=0;t={conduct.reset_s}',
                "RateLimit-Policy": f'"fixed window";"{bucket}";q=3000;w=300',
            })  # fmt: skip
        if resolver and conduct.signs_nothing:
            raise Refused(500, "", "Internal Error - We're working hard to fix this as soon as possible!")

    # -- the API -------------------------------------------------------------------------------------

    def _api(self, kind: str, parts: list[str], query: dict[str, list[str]]) -> None:
        if kind == "whoami":
            if self.user is None:
                raise Refused(401, "", "Invalid username or password.")
            self._json(kind, {"type": "user", "name": self.user, "auth": {"accessToken": {"role": "read"}}})
            return
        if parts == ["-", "counts"]:
            self._json("other", self.hub.counts)
            return
        if parts[0] not in {"models", "datasets"}:
            raise Refused(404, "", "Not Found")
        if parts[1:2] == ["resolve-cache"]:
            self._small_file(parts[2:], parts[0])
            return
        repository, rest = self._repository(parts[0], "/".join(parts[1:]))
        what, _, rest = rest.partition("/")
        if what in {"", "revision"}:
            if "/" in rest:  # huggingface_hub writes one segment: refs%2Fpr%2F1
                raise Refused(404, "", "Not Found")
            revision = unquote(rest) or "main"
            self._json(kind, _info(repository, self._commit(repository, revision)))
        elif what == "tree":
            revision, _, path = rest.partition("/")
            self._tree(repository, self._commit(repository, unquote(revision)), unquote(path), query)
        elif what == "refs":
            self._json(kind, _refs(repository))
        elif what == "paths-info":
            raise Refused(404, "", "Not Found")
        else:
            raise Refused(404, "", "Xet is not spoken here")

    def _repository(self, kind: str, path: str) -> tuple[Repository, str]:
        """Return the repository and the rest of a path; to those who may not know of it, there is none."""
        found = self.hub.find(kind, path)
        if found is None or (found[0].private and self.user not in found[0].readers):
            if self.user is None:  # the Hub does not tell a private one from one that is not there
                raise Refused(401, "RepoNotFound", "Invalid username or password.")
            raise Refused(404, "RepoNotFound", "Repository not found")
        return found

    def _commit(self, repository: Repository, revision: str) -> Commit:
        found = repository.at(revision)
        if found is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def _json(self, kind: str, document: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.reply(kind, 200, {"Content-Type": "application/json; charset=utf-8"} | (headers or {}), body)

    def _tree(self, repository: Repository, commit: Commit, below: str, query: dict[str, list[str]]) -> None:
        recursive = query.get("recursive", ["false"])[0].lower() in {"true", "1"}
        entries = _entries(commit, below, recursive=recursive)
        if not self.hub.conduct.xet:
            entries = [{name: said for name, said in entry.items() if name != "xetHash"} for entry in entries]
        if not entries and below:
            raise Refused(404, "EntryNotFound", f'{below} does not exist on "{commit.sha}"')
        start = int(query.get("cursor", ["0"])[0])
        stop = start + min(self.hub.conduct.page_entries, int(query.get("limit", ["1000"])[0]))
        headers = {"X-Repo-Commit": commit.sha}
        if stop < len(entries):
            here = urlsplit(self.path).path
            more = f"recursive={recursive}&expand=False&cursor={stop}"
            server = "" if self.hub.conduct.relative_pages else self.hub.url
            headers["Link"] = self.hub.conduct.link.format(url=f"{server}{here}?{more}")
        if self.hub.conduct.unlinked_pages:
            headers.pop("Link", None)
        self._json("tree", entries[start:stop], headers)

    # -- where files are -----------------------------------------------------------------------------

    def _resolve(self, parts: list[str]) -> None:
        kind = "models"
        if parts[0] == "datasets":
            kind, parts = "datasets", parts[1:]
        repository, rest = self._repository(kind, "/".join(parts))
        if not rest.startswith("resolve/"):
            raise Refused(404, "", "Not Found")
        revision, _, name = rest.removeprefix("resolve/").partition("/")
        self._admit(repository)
        commit = self._commit(repository, unquote(revision))
        stored, name = self._entry(commit, unquote(name))
        linked = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        if stored.large or self.hub.conduct.small == "stored":
            self._linked((repository, commit, name), stored, linked)
        elif self.hub.conduct.small == "redirected":
            target = f"/api/{kind}/resolve-cache/{repository.name}/{commit.sha}/{quote(name)}"
            self.reply(
                "resolve", 307, linked | {"Location": f"{target}?etag=%22{stored.oid}%22"}, b"redirect"
            )
        else:
            self._whole("resolve", stored, linked)

    def _admit(self, repository: Repository) -> None:
        if repository.gated and self.user not in repository.readers:
            page = f"{self.hub.url}/{repository.name}"
            if self.user is None:
                raise Refused(401, "GatedRepo", f"Access to model {repository.name} is restricted. Log in.")
            raise Refused(403, "GatedRepo", f"Access to model {repository.name} is restricted. Visit {page}")

    def _entry(self, commit: Commit, name: str) -> tuple[Stored, str]:
        if name not in commit.files:
            raise Refused(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit.sha})
        return commit.files[name], name

    def _linked(self, whose: tuple[Repository, Commit, str], stored: Stored, headers: dict[str, str]) -> None:
        """Redirect to the storage."""
        repository, commit, name = whose
        conduct, api = self.hub.conduct, f"{self.hub.url}/api/{repository.kind}/{repository.name}"
        path = f"/{name}" if conduct.elsewhere else f"/xet-bridge-us/{stored.sha256}"
        base = conduct.elsewhere or self.hub.storage_url
        url = sign(base, path, conduct.expires_s, conduct.style)
        said = {
            "Location": url,
            "X-Linked-Size": str(stored.size),
            "X-Linked-ETag": f'"{stored.sha256}"',
        }
        if conduct.xet:
            said |= {
                "X-Xet-Hash": stored.xet_hash,
                "Link": f'<{api}/xet-read-token/{commit.sha}>; rel="xet-auth", '
                f'<{self.hub.url}/v1/reconstructions/{stored.xet_hash}>; rel="xet-reconstruction-info"',
            }
        if conduct.links_only:
            headers, said = {}, {"Location": url}
        self.reply("resolve", 302, headers | said, f"Found. Redirecting to {url}".encode())

    def _small_file(self, parts: list[str], kind: str) -> None:
        """Answer what a small file may be redirected to, on this same host."""
        repository, rest = self._repository(kind, "/".join(parts))
        sha, _, name = rest.partition("/")
        self._admit(repository)
        stored, _ = self._entry(self._commit(repository, sha), unquote(name))
        self._whole("small", stored, {"X-Repo-Commit": sha})

    def _whole(self, kind: str, stored: Stored, headers: dict[str, str]) -> None:
        """Send a small file: with a length and ranges, or without either."""
        small = self.hub.conduct.small
        etag = stored.sha256 if small == "hashed" else stored.oid
        headers |= {"ETag": f'"{etag}"', "Content-Type": "text/plain; charset=utf-8"}
        content = b"".join(stored.pieces())
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if small not in {"chunked", "gzip"} or (small == "gzip" and not accepts):
            self.send_part(kind, stored, headers)
            return
        if small == "gzip":
            content = gzip.compress(content)
            headers |= {"Content-Encoding": "gzip", "ETag": f'W/"{stored.oid}"'}
        headers.pop("Accept-Ranges", None)
        self.reply(kind, 200, headers | {"Transfer-Encoding": "chunked"}, None)
        if self.command != "HEAD":
            for piece in (content[start : start + 4096] for start in range(0, len(content), 4096)):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()


class StorageHandler(Handler):
    """The storage: whoever has a signed URL may read, and must bring nothing else."""

    place = "storage"

    def answer(self) -> None:
        if "Authorization" in self.headers:
            self._refuse(400, "InvalidArgument", "Only one auth mechanism allowed")
            return
        if self.command == "HEAD":
            self._refuse(403, "SignatureDoesNotMatch", "Signed for GET")
            return
        code = refusal(self.path)
        if code is not None:
            self._refuse(403, code, "Request has expired")
            return
        wanted = urlsplit(self.path).path.rpartition("/")[2]
        for repository in self.hub.repositories:
            for commit in list(repository.commits.values()):
                for stored in commit.files.values():
                    if (stored.large or self.hub.conduct.small == "stored") and stored.sha256 == wanted:
                        self.send_part("storage", stored, {"ETag": stored.storage_etag})
                        return
        self._refuse(404, "NoSuchKey", "The specified key does not exist.")

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
        self.reply("storage", status, {"Content-Type": "application/xml"}, body)

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)


def _kind(parts: list[str]) -> str:
    """Return what a path asks for; see `Hub.of`."""
    if parts[0] != "api":
        return "resolve" if "resolve" in parts else "other"
    if parts[1:2] == ["whoami-v2"]:
        return "whoami"
    if "resolve-cache" in parts:
        return "small"
    for kind, word in (("tree", "tree"), ("refs", "refs"), ("xet", "xet-read-token")):
        if word in parts[3:]:
            return kind
    return "info" if parts[1:2] and parts[1] in {"models", "datasets"} else "other"


def _info(repository: Repository, commit: Commit) -> dict[str, Any]:
    return {
        "_id": "0123456789abcdef01234567", "id": repository.name, "modelId": repository.name,
        "sha": commit.sha, "private": repository.private, "gated": repository.gated, "disabled": False,
        "lastModified": _DATE, "createdAt": _DATE, "downloads": 0, "likes": 0, "tags": [],
        "siblings": [{"rfilename": name} for name in sorted(commit.files)],
    }  # fmt: skip


def _refs(repository: Repository) -> dict[str, Any]:
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
        for name, sha in repository.refs.items()
    ]
    return {"branches": branches, "tags": [], "converts": []}


def _entries(commit: Commit, below: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return files and directories below a path, as the API lists them."""
    prefix = f"{below.strip('/')}/" if below.strip("/") else ""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(commit.files):
        if not name.startswith(prefix):
            continue
        parts = name[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            directory = prefix + "/".join(parts[:depth])
            found[directory] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": directory}
        if recursive or len(parts) == 1:
            found[name] = _file(name, commit.files[name])
    return [found[path] for path in sorted(found)]


def _file(name: str, stored: Stored) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": stored.oid, "size": stored.size, "path": name}
    if stored.large:
        entry["lfs"] = {"oid": stored.sha256, "size": stored.size, "pointerSize": len(stored.pointer)}
        entry["xetHash"] = stored.xet_hash
    return entry
