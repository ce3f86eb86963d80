import threading
import urllib.error
import urllib.request

import pytest

from lazyfs.errors import UsageError
from lazyfs.telemetry import endpoint as module
from lazyfs.telemetry.endpoint import Endpoint, Probe
from lazyfs.telemetry.listening import listen
from lazyfs.telemetry.metrics import Meter


class Status:
    def to_json(self):
        return '{"phase": "loading"}'


@pytest.fixture
def probed(tmp_path):
    file = tmp_path / "status.json"
    file.write_text("{}")
    return file


@pytest.fixture
def endpoint(probed):
    def read():
        try:
            probed.read_bytes()
        except OSError as error:
            return error.strerror

    found = Endpoint(listen(("127.0.0.1", 0)), Meter(), Status, Probe(read))
    yield found
    found.close()


def get(endpoint, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.real
def test_each_page_answers(endpoint):
    assert (200, '{"phase": "loading"}\n') == get(endpoint, "/status")
    assert "lazyfs_retries_total 0.0" in get(endpoint, "/metrics")[1]
    assert (404, "/metrics /status /readyz /healthz\n") == get(endpoint, "/other")


@pytest.mark.real
def test_readyz_turns_when_the_mount_is_ready(endpoint):
    assert 503 == get(endpoint, "/readyz")[0]
    endpoint.ready = True
    assert (200, "ok\n") == get(endpoint, "/readyz")


@pytest.mark.real
def test_healthz_reads_and_says_why_it_cannot(endpoint, probed):
    assert (200, "ok\n") == get(endpoint, "/healthz")
    probed.unlink()
    assert (503, "a read through the mount failed: No such file or directory\n") == get(endpoint, "/healthz")
    probed.write_text("{}")
    assert 200 == get(endpoint, "/healthz")[0]


def test_a_read_that_hangs_is_unhealthy_and_not_tried_again_while_it_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 0.05)
    go, tries = threading.Event(), []

    def hang():
        tries.append(threading.current_thread())
        go.wait(60)

    probe = Probe(hang)

    assert "takes longer than" in probe()
    assert "takes longer than" in probe()
    (thread,) = tries
    go.set()
    thread.join()


@pytest.mark.real
def test_an_address_in_use_is_the_users_error(endpoint):
    with pytest.raises(UsageError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use; choose"):
        listen(("127.0.0.1", endpoint.port))
