"""The mounter's HTTP endpoint: `/metrics` of all its volumes on one page, `/healthz`, `/status`.

Each worker serves its own, at a port of the loopback that the mounter has opened for it. They are asked when
somebody asks here, and told apart by two labels: `source`, and `volume`, which tells apart those who show the
same source by different options or credentials.
"""

import http.client
import json
import logging
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from lazyfs.telemetry.listening import listen
from lazyfs.telemetry.pages import EXPOSITION, JSON, Answer, Pages, verdict
from lazyfs_csi.charge import Page

log = logging.getLogger(__name__)

ASKED_AT_ONCE = 8
ANSWER_S = 2.0
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_DESCRIBED = re.compile(r"# (?:HELP|TYPE) (\S+) ")


def merged(texts: Iterable[tuple[Page, str]]) -> str:
    """Return one exposition of several: each family once, its samples with the labels of where they are from.

    Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for page, text in texts:
        labels = f'source="{_escaped(page.source)}",volume="{page.volume}"'
        described: list[str] = []
        samples: list[str] = []
        for line in text.splitlines():
            if found := _DESCRIBED.match(line):
                described, samples = families.setdefault(found[1], ([], []))
                if line not in described:
                    described.append(line)
            elif found := _SAMPLE.match(line):
                more = f",{found[2]}" if found[2] else ""
                samples.append(f"{found[1]}{{{labels}{more}}} {found[3]}")
    return "".join(f"{line}\n" for described, samples in families.values() for line in (*described, *samples))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def ask(page: Page, path: str) -> str | None:
    """Return what a worker says, or None when it does not: it is starting, or being replaced."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        log.debug("worker_silent source=%r why=%r", page.source, str(error))
        return None
    finally:
        connection.close()


class Observed:
    """The endpoint; `pages` says which workers there are now."""

    def __init__(self, address: tuple[str, int], pages: Callable[[], list[Page]]) -> None:
        """Serve at host and port.

        Raises:
            UsageError: when that is not possible.

        """
        self._workers = pages
        self._threads = ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="asks")
        self._pages = Pages(
            listen(address),
            {"/metrics": self._metrics, "/status": self._status, "/healthz": lambda: verdict(None)},
        )
        self.port = self._pages.port

    def _said(self, path: str) -> list[tuple[Page, str]]:
        pages = self._workers()
        answers = self._threads.map(ask, pages, [path] * len(pages))
        return [(page, text) for page, text in zip(pages, answers, strict=True) if text is not None]

    def _metrics(self) -> Answer:
        return HTTPStatus.OK, EXPOSITION, merged(self._said("/metrics")).encode()

    def _status(self) -> Answer:
        said = [{"volume": page.volume} | json.loads(text) for page, text in self._said("/status")]
        return HTTPStatus.OK, JSON, json.dumps(said).encode()

    def close(self) -> None:
        """Stop serving."""
        self._pages.close()
        self._threads.shutdown(wait=False)
