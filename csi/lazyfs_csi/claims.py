"""Reading annotations of a PersistentVolumeClaim, for the one who asked for it to say what it shows.

One request to the API server, with the service account's token; it needs the right to get
persistentvolumeclaims, and no client library.
"""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from lazyfs.errors import AccessDenied, SourceMissing, SourceUnavailable
from lazyfs_csi.attributes import KNOWN
from lazyfs_csi.controller import Annotations

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 10.0
_FORBIDDEN, _NOT_FOUND = {401, 403}, 404


def reader(driver_name: str, server: str = "", account: Path = ACCOUNT) -> Annotations:
    """Return what reads the attributes that annotations named `DRIVER/ATTRIBUTE` hold."""
    server = server or _server()

    def read(namespace: str, name: str) -> Mapping[str, str]:
        path = f"namespaces/{quote(namespace, safe='')}/persistentvolumeclaims/{quote(name, safe='')}"
        url = f"{server}/api/v1/{path}"
        document = _get(url, account, f"claim {namespace}/{name}")
        found = document.get("metadata", {}).get("annotations") or {}
        return {key: found[f"{driver_name}/{key}"] for key in KNOWN if f"{driver_name}/{key}" in found}

    return read


def _server() -> str:
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST", ""),
        os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    if not host:
        raise SourceUnavailable(
            "there is no API server", "--read-claims works in a pod, with a service account"
        )
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def _get(url: str, account: Path, what: str) -> dict[str, dict[str, dict[str, str]]]:
    request = urllib.request.Request(url)  # noqa: S310 - the server is the cluster's
    request.add_header("Authorization", f"Bearer {(account / 'token').read_text().strip()}")
    context = ssl.create_default_context(cafile=account / "ca.crt") if url.startswith("https:") else None
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as answer:
            document: dict[str, dict[str, dict[str, str]]] = json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _FORBIDDEN:
            raise AccessDenied(
                f"{what} may not be read", "grant the controller get on persistentvolumeclaims"
            ) from None
        if error.code == _NOT_FOUND:
            raise SourceMissing(f"there is no {what}") from None
        raise SourceUnavailable(f"{what}: the API server answered {error.code}", "try again later") from None
    except OSError as error:
        raise SourceUnavailable(
            f"{what}: the API server cannot be asked: {error}", "try again later"
        ) from None
    return document
