"""The way to a server: certificates, proxies, and whether a source may go there at all."""

import os
import ssl
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3.util import make_headers

from lazyfs.errors import SourceUntrusted
from lazyfs.transport import gate

BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


def ca_bundle() -> tuple[str, str] | None:
    """Return the variable that names the CA file to trust alone, and the file; None: what OpenSSL trusts."""
    return next(((name, path) for name in BUNDLES if (path := os.environ.get(name))), None)


def ca_cure(otherwise: str) -> str:
    """Return what to do where no CA that is trusted has signed; `otherwise` when nobody chose which are."""
    found = ca_bundle()
    return (
        otherwise
        if found is None
        else f"{found[0]} is set, and only the CAs in {found[1]} count: add it there"
    )


def tls_context() -> ssl.SSLContext:
    """Return a verifying context; AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE name another CA file.

    Raises:
        SourceUntrusted: when that file cannot be read.

    """
    variable, bundle = ca_bundle() or (None, None)
    try:
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError) as error:
        raise SourceUntrusted(
            f"cannot read the CA bundle {bundle}: {error}", f"correct {variable or 'SSL_CERT_FILE'}"
        ) from None


def admit(address: str) -> None:
    """Let a URL through that a client library is about to ask: see `gate`.

    Raises:
        AccessDenied: when no source may be there.

    """
    url = urlsplit(address)
    host = url.hostname or ""
    if proxy_for(url) is not None:
        gate.require_literal(host)
    else:
        gate.require_host(host, url.port or (443 if url.scheme == "https" else 80))


def proxy_for(url: SplitResult) -> SplitResult | None:
    """Return the proxy the usual environment variables name for `url`."""
    address = getproxies().get(url.scheme)
    if not address or proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    return urlsplit(address if "://" in address else f"http://{address}")


def proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    """Return the header that lets us use a proxy whose URL has credentials."""
    if proxy.username is None:
        return {}
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return dict(make_headers(proxy_basic_auth=credentials))
