"""Requests to the Hub: small ones, that say what there is and where it is. The token stays with the Hub.

huggingface_hub knows the endpoint and the token (environment, file, OIDC). Its own client of the API would
take 0.2 s more to import than the connections that the transport has anyway.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from huggingface_hub import constants

from lazyfs import __version__
from lazyfs.core.origin import same_server, server
from lazyfs.errors import (
    AccessDenied,
    BadResponse,
    LazyfsError,
    SourceThrottled,
    SourceUnavailable,
    SourceUntrusted,
    UsageError,
)
from lazyfs.sources.base import Access
from lazyfs.sources.hub_address import HubAddress
from lazyfs.sources.hub_answers import Refused, not_hub
from lazyfs.sources.hub_connections import connections, translated
from lazyfs.sources.hub_token import find_token
from lazyfs.transport.route import admit

log = logging.getLogger(__name__)

TIMEOUT = urllib3.Timeout(connect=5.0, read=10.0)
# Once more: a kept connection may have been closed by the other side meanwhile.
RETRIES = urllib3.Retry(total=None, connect=0, read=1, other=0, status=0, redirect=0, backoff_factor=0)
TRIES, THROTTLED_TRIES = 3, 6
"""So often a listing is asked for: when something fails, and when the Hub wants to be asked later."""
PAUSE_S = 0.5
WAIT_S = 330.0
"""So long a listing waits in all when it is throttled: one window of the Hub (300 s), and a little."""
DOCUMENT_BYTES_MAX = 64 << 20
REDIRECTS_MAX = 5
OK = 200
REDIRECTS = {301, 302, 303, 307, 308}
_REFUSED = {401, 403}


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, who gave it, and when it was asked for (seconds since the epoch)."""

    status: int
    headers: Mapping[str, str]
    url: str
    asked_at_s: float


class HubClient:
    """Asks one endpoint about one repository. Safe to call from several threads at once."""

    def __init__(self, address: HubAddress, access: Access) -> None:
        self._address = address
        self._anonymous = access.anonymous or constants.HF_HUB_DISABLE_IMPLICIT_TOKEN
        self.spelled = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        """The endpoint as it was given, which earlier versions wrote into origins."""
        self.endpoint = _endpoint(self.spelled)
        self._token = self._find_token()
        self._pool = connections(self.endpoint)
        self._waited_s = 0.0

    def _find_token(self) -> str | None:
        try:
            return None if self._anonymous else find_token()
        except OSError as error:
            log.warning(
                "token_unreadable error=%r consequence=%r", error.strerror, "the Hub is asked without one"
            )
            return None

    # -- whom what is sent ---------------------------------------------------------------------------

    def url(self, path: str) -> str:
        """Return the whole URL of a path of the Hub."""
        return self.endpoint + path

    def ours(self, url: str) -> bool:
        """Tell whether a URL is of the Hub itself: scheme, host and port."""
        return same_server(url, self.endpoint)

    def headers(self, url: str) -> dict[str, str]:
        """Return what to send to a URL: the token to the Hub, and to nobody else."""
        sent = {"User-Agent": f"lazyfs/{__version__}"}
        if self._token is not None and self.ours(url):
            sent["Authorization"] = f"Bearer {self._token}"
        return sent

    def refused(self, answer: Answer) -> LazyfsError:
        """Return the error that an answer without success means."""
        known = self._token is not None
        return Refused(answer.status, answer.headers, self._address, self.endpoint, known).meaning

    def not_hub(self) -> SourceUnavailable:
        """Return what to say of an answer that the Hub would not give."""
        return not_hub(self.endpoint)

    # -- where a file is -----------------------------------------------------------------------------

    def head(self, path: str) -> Answer:
        """Ask once about a path; the answer may be a refusal or a redirect.

        Raises:
            SourceUnavailable: when there is no answer in time.

        """
        url = self.url(path)
        answer = self._head(url)
        if answer.status in _REFUSED and self.renewed():
            answer = self._head(url)
        return answer

    def renewed(self) -> bool:
        """Look for another token, as whoever renews it may have done so; tell whether there is one."""
        before = self._token
        try:
            found = self._find_token()
        except AccessDenied as error:
            # The one there was may still be good.
            log.warning("token_unreadable error=%r consequence=%r", error.cause, "the one before is kept")
            return False
        self._token = found or before
        return self._token != before

    def follow(self, answer: Answer) -> Answer:
        """Ask where a redirect leads.

        Raises:
            BadResponse: when it leads nowhere.
            SourceUntrusted: when it leads to an unprotected link.
            SourceUnavailable: when there is no answer in time.

        """
        return self._head(target_of(answer))

    def _head(self, url: str) -> Answer:
        headers = self.headers(url) | {"Accept-Encoding": "identity"}
        asked_at_s = time.time()
        response = self._send("HEAD", url, headers)
        response.drain_conn()
        response.release_conn()
        return Answer(response.status, response.headers, url, asked_at_s)

    # -- what there is -------------------------------------------------------------------------------

    def document(self, url: str) -> tuple[Any, Mapping[str, str]]:
        """Return a JSON document of the API, and the headers of its answer. Patiently: a mount waits for it.

        Raises:
            LazyfsError: see `Refused`; SourceUnavailable when it is no JSON, or none comes after some tries;
                SourceThrottled when all that was asked for had to wait for WAIT_S already.

        """
        failed = throttled = 0
        while True:
            try:
                return self._document(url)
            except SourceThrottled as error:
                throttled += 1
                pause_s = PAUSE_S * 2**throttled if error.retry_after_s is None else error.retry_after_s
                if throttled >= THROTTLED_TRIES or self._waited_s + pause_s > WAIT_S:
                    raise self._given_up(error, pause_s) from None
                self._waited_s += pause_s
                log.warning("listing_throttled host=%r retry_s=%.0f waited_s=%.0f",
                            urlsplit(url).netloc, pause_s, self._waited_s - pause_s)  # fmt: skip
            except SourceUnavailable:
                failed += 1
                if failed >= TRIES:
                    raise
                pause_s = PAUSE_S * 2 ** (failed - 1)
            time.sleep(pause_s)

    def _given_up(self, error: SourceThrottled, pause_s: float) -> SourceThrottled:
        cause = f"{error.cause}: after {self._waited_s:.0f} s of waiting it wants another {pause_s:.0f} s"
        return SourceThrottled(cause, error.cure, error.retry_after_s)

    def _document(self, url: str) -> tuple[Any, Mapping[str, str]]:
        answer, body = self._get(url)
        for _ in range(REDIRECTS_MAX):
            if answer.status not in REDIRECTS:
                break
            answer, body = self._get(target_of(answer))  # a repository has a new name
        if answer.status != OK:
            raise self.refused(answer)
        try:
            return json.loads(body), answer.headers
        except (ValueError, RecursionError):
            raise self.not_hub() from None

    def _get(self, url: str) -> tuple[Answer, bytes]:
        asked_at_s = time.time()
        response = self._send("GET", url, self.headers(url) | {"Accept": "application/json"})
        with translated(url):
            body = response.read(DOCUMENT_BYTES_MAX, decode_content=True)
        response.release_conn()
        return Answer(response.status, response.headers, url, asked_at_s), body

    def _send(self, method: str, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        admit(url)
        with translated(url):
            return self._pool.request(
                method, url, headers=headers, redirect=False, preload_content=False, timeout=TIMEOUT,
                retries=RETRIES,
            )  # fmt: skip

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


def target_of(answer: Answer) -> str:
    """Return where a redirect leads.

    Raises:
        BadResponse: when it leads nowhere.
        SourceUntrusted: when it leads from a protected link to one that is not.

    """
    host = urlsplit(answer.url).netloc
    nowhere = BadResponse(f"{host} redirects to something that is not a URL")
    try:
        target = urlsplit(urljoin(answer.url, answer.headers.get("Location", "")))
        proper = target.scheme in {"http", "https"} and target.hostname and target.port != 0
    except ValueError:
        raise nowhere from None
    if not proper:
        raise nowhere
    if answer.url.startswith("https:") and target.scheme == "http":
        raise SourceUntrusted(
            f"{host} redirects from https to http", "weights are not read over an unprotected link"
        )
    return target.geturl()


def _endpoint(found: str) -> str:
    """Return the endpoint that huggingface_hub has found. --endpoint-url is of S3, and is shown no token."""
    wrong = UsageError("the endpoint of the Hub is not a URL", "write HF_ENDPOINT like https://hub.example")
    try:
        url = urlsplit(found)
        # From here on it is asked by the very name that stands in the origins.
        endpoint = server(found) + url.path.rstrip("/")
    except ValueError:
        raise wrong from None
    if url.username is not None or any(sign in found for sign in "?#\\") or not found.isprintable():
        raise wrong
    if constants.HF_HUB_OFFLINE:
        raise UsageError("HF_HUB_OFFLINE is set, and the Hub would be asked", "unset HF_HUB_OFFLINE")
    return endpoint
