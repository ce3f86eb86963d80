"""A small Hub: names, revisions and redirects on one port, the bytes of large files on another.

It speaks what huggingface_hub sends to list and to download (checked by test_hub_server.py with the
unmodified `hf download` and `HfApi`), and what the real one adds to it: gated and private repositories,
rate limits, signed URLs that expire. It remembers what it was asked.
"""

import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.hub.repository import Repository

SMALL = ("plain", "chunked", "gzip", "redirected", "stored", "hashed")
"""The last two as mirrors do it: at the storage, like large files; and with an ETag that is no git id."""


@dataclass
class Conduct:
    """How the server behaves; may be changed while it runs."""

    expires_s: float = 3600.0
    """Life of a signed URL."""
    style: str = "s3"
    """How signed URLs look: `s3`, `cloudfront`, or `silent` about when they expire."""
    throttled_share: float = 0.0
    """So many of the requests to /resolve/ are answered 429,"""
    throttled_api_share: float = 0.0
    """and of those to /api/,"""
    reset_s: int = 1
    """to be tried again after so long."""
    small: str = "plain"
    """How small files come: one of `SMALL`."""
    page_entries: int = 1000
    """Entries on a page of a listing."""
    signs_nothing: bool = False
    """The resolver answers 500."""
    delay_s: float = 0.0
    """So long the Hub thinks before it answers."""
    xet: bool = False
    """Large files are said to be in Xet as well. It serves nothing of it: clients must be told not to ask."""
    links_only: bool = False
    """Redirects to the storage say no more than where it is, as those of some mirrors and registries."""
    unlinked_pages: bool = False
    """A listing does not say that there is another page, as behind a proxy that drops the header."""
    link: str = '<{url}>; rel="next"'
    """How it says so."""
    relative_pages: bool = False
    """A listing names its next page without the server."""
    elsewhere: str = ""
    """A URL below which large files lie by their names, if they are not in this server's storage."""


@dataclass(frozen=True)
class Asked:
    """A request: to which of the two, what for, and what was answered."""

    place: str
    kind: str
    method: str
    target: str
    headers: dict[str, str]
    status: int


@dataclass
class Hub:
    """Serves `repositories` until closed. `tokens` maps each to the user it stands for."""

    repositories: list[Repository] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    conduct: Conduct = field(default_factory=Conduct)
    port: int = 0
    storage_port: int = 0
    seed: int = 1
    storage_by: int = 0
    """The port by which clients are to reach the storage, if there is something before it."""

    def __post_init__(self) -> None:
        # Late: the handlers know the server.
        from tests.hub.answers import HubHandler, StorageHandler

        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._chance = random.Random(self.seed)
        self._servers = [
            _Server(("127.0.0.1", self.port), HubHandler, self),
            _Server(("127.0.0.1", self.storage_port), StorageHandler, self),
        ]
        self.port, self.storage_port = (server.server_address[1] for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_url(self) -> str:
        """Another name, too: to huggingface_hub 1 another port of the same host is the same."""
        return f"http://localhost:{self.storage_by or self.storage_port}"

    def repository(self, name: str, kind: str = "models", **options: object) -> Repository:
        """Return a new repository."""
        made = Repository(name, kind, **options)
        self.repositories.append(made)
        return made

    def find(self, kind: str, path: str) -> tuple[Repository, str] | None:
        """Return the repository whose name a path begins with, and the rest of the path."""
        for repository in self.repositories:
            if repository.kind == kind and f"{path}/".startswith(f"{repository.name}/"):
                return repository, path[len(repository.name) + 1 :]
        return None

    def remember(self, asked: Asked) -> None:
        with self._lock:
            self.asked.append(asked)

    def unlucky(self, share: float) -> bool:
        """Tell whether this request is one of a share that goes wrong."""
        with self._lock:
            return share > 0 and self._chance.random() < share

    def forget(self) -> None:
        """Forget what was asked."""
        with self._lock:
            self.asked.clear()

    def of(self, kind: str) -> list[Asked]:
        """Return the requests of a kind: info, tree, refs, resolve, small, storage, whoami, xet, other.

        `resolve` are those that ask where a file is, or are it; `small` is what those of small files may
        be redirected to.
        """
        with self._lock:
            return [asked for asked in self.asked if asked.kind == kind]

    @property
    def counts(self) -> dict[str, int]:
        """How many requests of each kind and status there were, like `resolve 302`."""
        with self._lock:
            return dict(Counter(f"{asked.kind} {asked.status}" for asked in self.asked))

    @property
    def leaked(self) -> list[Asked]:
        """Requests to the storage that held anything it must not see."""
        secret = {"authorization", "cookie"}
        return [asked for asked in self.of("storage") if secret & {name.lower() for name in asked.headers}]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], hub: Hub) -> None:
        self.hub = hub
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients may hang up."""


def names(asked: Iterable[Asked]) -> list[str]:
    """Return the last components of the paths asked for."""
    return [one.target.partition("?")[0].rpartition("/")[2] for one in asked]
