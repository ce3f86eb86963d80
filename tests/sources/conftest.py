from contextlib import ExitStack
from typing import Any

import pytest

from tests.hub import Hub
from tests.sources import webservers
from tests.sources.places import PLACES, Bucket, Directory, HubModel, WebDirectory

SERVERS: dict[str, Any] = {
    "nginx-json": (webservers.nginx, "autoindex_format json;"),
    "nginx-html": (webservers.nginx, ""),
    "apache-plain": (webservers.apache, ""),
    "apache-fancy": (webservers.apache, "IndexOptions FancyIndexing"),
    "apache-table": (webservers.apache, "IndexOptions FancyIndexing HTMLTable"),
    "python": (webservers.python, None),
}


@pytest.fixture(scope="session")
def hub_server():
    with Hub() as found:
        yield found


@pytest.fixture
def bucket(aws):
    found = Bucket(aws)
    yield found
    found.close()


@pytest.fixture(scope="session")
def web(tmp_path_factory):
    """The port of a web server by its name, and what it serves; each is started once."""
    started = {}
    with ExitStack() as ends:

        def get(name):
            if name not in started:
                root, state = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("state")
                serve, extra = SERVERS[name]
                running = serve(root, state) if extra is None else serve(root, state, extra)
                started[name] = (root, ends.enter_context(running))
            return started[name]

        yield get


@pytest.fixture(
    params=[name if name == "local" else pytest.param(name, marks=pytest.mark.real) for name in PLACES]
)
def place(request, tmp_path, monkeypatch):
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    if request.param == "hub":
        hub = request.getfixturevalue("hub_server")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        return HubModel(hub)
    if request.param == "local":
        root = tmp_path / "models"
        root.mkdir()
        return Directory(root)
    served, port = request.getfixturevalue("web")(request.param)
    root = served / tmp_path.name
    root.mkdir()
    return WebDirectory(root, port)
