"""Connections to the Hub, and what goes wrong with them in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
import urllib3.exceptions
from urllib3.util import make_headers

from lazyfs.errors import (
    BadResponse,
    LazyfsError,
    SourceUnavailable,
    SourceUnreachable,
    SourceUntrusted,
)
from lazyfs.transport.route import ca_cure, tls_context

CONNECTIONS = 8


def connections(endpoint: str) -> urllib3.PoolManager:
    """Return the connections: verified, through the proxy the usual variables name."""
    url = urlsplit(endpoint)
    tls = tls_context()
    proxy = getproxies().get(url.scheme)
    if not proxy or proxy_bypass(url.netloc):
        return urllib3.PoolManager(maxsize=CONNECTIONS, ssl_context=tls)
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    shown = f"{unquote(found.username)}:{unquote(found.password or '')}" if found.username else None
    host = found._replace(netloc=found.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(
        host, maxsize=CONNECTIONS, ssl_context=tls, proxy_headers=make_headers(proxy_basic_auth=shown)
    )


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what urllib3 raises into our errors, once."""
    host = urlsplit(url).netloc
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        reason: BaseException = error
        while isinstance(reason, urllib3.exceptions.MaxRetryError) and reason.reason is not None:
            reason = reason.reason
        raise _meaning(reason, host) from None


def _meaning(reason: BaseException, host: str) -> LazyfsError:
    if isinstance(reason, urllib3.exceptions.SSLError):
        said = " ".join(str(reason).split())
        cure = "check HF_ENDPOINT: is it an http:// address, or the wrong port?"
        if "CERTIFICATE_VERIFY_FAILED" in said:
            cure = ca_cure("set REQUESTS_CA_BUNDLE to the CA that signed the server's certificate")
        return SourceUntrusted(f"TLS with {host} failed ({said})", cure)
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return SourceUnreachable(f"cannot resolve {host}", "check HF_ENDPOINT and DNS")
    if isinstance(reason, urllib3.exceptions.ProxyError):
        return SourceUnreachable(
            f"cannot connect to {host} through the proxy", "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        )
    if isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return SourceUnreachable(
            f"cannot connect to {host}", "check HF_ENDPOINT, and the network and its proxies"
        )
    if isinstance(reason, urllib3.exceptions.TimeoutError):
        return SourceUnavailable(f"no answer from {host} in time", "check the network and its proxies")
    return BadResponse(f"{host} sent something that is not a proper reply", "check HF_ENDPOINT")
