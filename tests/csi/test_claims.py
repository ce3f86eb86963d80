"""Annotations of a claim say what its volume shows, when the controller may read claims."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lazyfs.errors import AccessDenied, SourceMissing, SourceUnavailable
from lazyfs_csi.claims import reader
from lazyfs_csi.controller import Controller
from lazyfs_csi.wire import csi_pb2
from tests.csi.rig import DRIVER, capability, unreachable

CLAIM = "/api/v1/namespaces/team-a/persistentvolumeclaims/llama"


@pytest.fixture
def account(tmp_path):
    (tmp_path / "token").write_text("the-token\n")
    return tmp_path


@pytest.fixture
def api_server():
    """An API server with one claim; it forbids those of namespace `closed`."""
    claim = {"metadata": {"annotations": {f"{DRIVER}/source": "hf://org/model", "other": "x"}}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Bearer the-token"
            status = 403 if "closed" in self.path or not known else 200 if self.path == CLAIM else 404
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(claim).encode() if status == 200 else b"{}")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_annotations_win_over_the_class(api_server, account):
    controller = Controller(reader(DRIVER, api_server, account))
    parameters = {
        "source": "s3://models/default", "policy": "file",
        "csi.storage.k8s.io/pvc/name": "llama", "csi.storage.k8s.io/pvc/namespace": "team-a",
    }  # fmt: skip
    request = csi_pb2.CreateVolumeRequest(
        name="pvc-1", volume_capabilities=[capability()], parameters=parameters
    )

    volume = controller.CreateVolume(request, None).volume

    assert {"source": "hf://org/model", "policy": "file"} == volume.volume_context


@pytest.mark.parametrize(
    ("namespace", "name", "error", "message"),
    [
        ("closed", "x", AccessDenied, "claim closed/x may not be read; grant the controller get on"),
        ("team-a", "no", SourceMissing, "there is no claim team-a/no"),
    ],
)
def test_what_the_api_server_refuses_is_said(api_server, account, namespace, name, error, message):
    with pytest.raises(error) as caught:
        reader(DRIVER, api_server, account)(namespace, name)
    assert str(caught.value).startswith(message)


def test_an_api_server_that_is_not_there_is_said(account):
    with pytest.raises(SourceUnavailable, match="claim a/b: the API server cannot be asked"):
        reader(DRIVER, unreachable(), account)("a", "b")


def test_without_a_cluster_there_are_no_claims(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SourceUnavailable, match="--read-claims works in a pod"):
        reader(DRIVER)
