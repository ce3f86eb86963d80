import os

import pytest

from lazyfs.sources import Access, open_source
from tests.sources.http.site import Site


@pytest.fixture
def site(monkeypatch):
    for name in ("LAZYFS_HTTP_TOKEN", "LAZYFS_HTTP_USER", "LAZYFS_HTTP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    found = Site()
    yield found
    found.close()


@pytest.fixture
def opened():
    sources = []

    def connect(address, **access):
        sources.append(open_source(address, Access(**access)))
        return sources[-1]

    yield connect
    for source in sources:
        source.close()


@pytest.fixture
def storage():
    found = Site()
    yield found
    found.close()
