"""What the HTTP source says to servers, and to nobody else: credentials; and how it asks, several at once."""

import base64
import netrc
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote

from lazyfs.core.backoff import Backoff
from lazyfs.core.ratelimit import wait_s
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    LazyfsError,
    SourceMissing,
    SourceThrottled,
    SourceUnavailable,
)
from lazyfs.transport.asking import Answer, Asker
from lazyfs.transport.exchange import same_host

TOKEN, USER, PASSWORD = "LAZYFS_HTTP_TOKEN", "LAZYFS_HTTP_USER", "LAZYFS_HTTP_PASSWORD"
TRIES = 5
PAUSE_MOST_S = 10.0
"""A server that wants a longer pause is not waited for: whoever mounts hears of it."""
_BACKOFF = Backoff()


def authorization(host: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the header for `host`: a token, else a user's password, from the environment or netrc.

    Raises:
        AccessDenied: when they cannot be sent, or the netrc file cannot be read.

    """
    token = environment.get(TOKEN, "").strip()
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    if token:
        if not token.isascii() or not token.isprintable():
            raise AccessDenied(f"{TOKEN} holds what is not a token", "set it to the token alone")
        return {"Authorization": f"Bearer {token}"}
    if not user:
        found = _from_netrc(host, environment)
        if found is None:
            return {}
        user, password = found
    if ":" in user:
        raise AccessDenied("a user name with a colon cannot be sent", f"check {USER} and the netrc file")
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _from_netrc(host: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return user and password for `host` from NETRC or ~/.netrc."""
    named = environment.get("NETRC")
    path = Path(named) if named else Path(os.path.expanduser("~/.netrc"))  # noqa: PTH111 - never fails
    try:
        entry = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        if named:
            raise AccessDenied(f"there is no {path}", "correct NETRC") from None
        return None
    except netrc.NetrcParseError as error:
        # What it says may quote the password.
        raise AccessDenied(f"{path} cannot be parsed at line {error.lineno}", "correct it") from None
    except (OSError, UnicodeError):
        raise AccessDenied(f"{path} cannot be read", "check its permissions, or set NETRC") from None
    return (entry[0], entry[2] or "") if entry is not None else None


class Askers:
    """Asks from several threads, and again when the server is in trouble. Credentials stay on their host."""

    def __init__(self, home: SplitResult, credentials: Mapping[str, str]) -> None:
        self._home = home
        self._credentials = credentials
        self._idle: list[Asker] = []
        self._lock = threading.Lock()
        self._closed = False

    def headers(self, url: SplitResult) -> dict[str, str]:
        """Return the credentials that may be sent with a request for `url`."""
        return dict(self._credentials) if same_host(url, self._home) else {}

    def page(self, url: SplitResult, limit_bytes: int) -> Answer:
        """Return a page, whatever its status.

        Raises:
            LazyfsError: see `Asker.page`; when the server stays in trouble.

        """
        return self._asked(url, lambda asker: asker.page(url, self.headers(url), limit_bytes))

    def probe(self, url: SplitResult) -> Answer:
        """Return what the server says of a file, whatever the status.

        Raises:
            LazyfsError: as `page`.

        """
        return self._asked(url, lambda asker: asker.probe(url, self.headers(url)))

    def byte(self, answer: Answer) -> Answer:
        """Return what the server that has answered says to a GET of one byte.

        Raises:
            LazyfsError: as `page`.

        """
        return self._asked(answer.url, lambda asker: asker.byte(answer.url, answer.sent))

    def _asked(self, url: SplitResult, ask: Callable[[Asker], Answer]) -> Answer:
        for attempt in range(TRIES):
            try:
                answer = self._once(ask)
            except SourceUnavailable:
                if attempt == TRIES - 1:
                    raise
                pause_s: float | None = None
            else:
                trouble = refusal(answer, url)
                if not isinstance(trouble, SourceUnavailable) or isinstance(trouble, BadResponse):
                    return answer
                pause_s = trouble.retry_after_s if isinstance(trouble, SourceThrottled) else None
                if attempt == TRIES - 1 or (pause_s or 0.0) > PAUSE_MOST_S:
                    raise trouble
            time.sleep(_BACKOFF.delay_s(attempt, 0.5, pause_s))
        raise AssertionError("unreachable")

    def _once(self, ask: Callable[[Asker], Answer]) -> Answer:
        with self._lock:
            asker = self._idle.pop() if self._idle else Asker()
        try:
            return ask(asker)
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(asker)
            if not keep:
                asker.close()

    def close(self) -> None:
        """Close the connections that are not in use, and the others after their use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for asker in idle:
            asker.close()


def refusal(answer: Answer, url: SplitResult) -> LazyfsError | None:
    """Return the error an answer means when names and versions are asked for; None when it is a good one."""
    status, where = answer.status, shown(url)
    said = f"{url.netloc} answered {status} for {where}"
    if status in {200, 206, 416}:
        return None
    if status in {401, 403, 407}:
        cure = f"set {TOKEN}, or {USER} and {PASSWORD}, or put the host into ~/.netrc"
        return AccessDenied(said, cure)
    if status in {404, 410}:
        return SourceMissing(f"there is nothing at {where}", "check the address")
    if status in {429, 503}:
        return SourceThrottled(said, "try again later", wait_s(answer.headers, time.time()))
    if status >= 500 or status == 408:  # noqa: PLR2004
        return SourceUnavailable(said, "try again later")
    return BadResponse(said, "check the address")


def shown(url: SplitResult) -> str:
    """Return a URL as people may see it: decoded, without a query, which may hold a signature."""
    return f"{url.scheme}://{url.netloc}{unquote(url.path)}"
