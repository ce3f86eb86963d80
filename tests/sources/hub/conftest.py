import os

import pytest

from lazyfs.sources import Access, open_source
from tests.faults.server import FaultServer
from tests.hub import Hub
from tests.sources.hub.asking import SECRET


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    """No token from the environment, or from the files of whoever runs this."""
    from huggingface_hub import constants

    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def hub():
    with Hub(tokens={SECRET: "reader", "hf_other": "other"}) as found:
        yield found


@pytest.fixture
def model(hub, pattern_bytes):
    made = hub.repository("org/model")
    made.commit({
        "config.json": b'{"model_type": "test"}',
        "empty": b"",
        "sub/deep/vocab.txt": b"one\ntwo\n" * 3000,
        "sub/a.safetensors": pattern_bytes(300_000, 2),
        "model.safetensors": pattern_bytes(1_000_001, 1),
    })  # fmt: skip
    return made


@pytest.fixture
def connect(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    opened = []

    def connected(address, **access):
        opened.append(open_source(address, Access(**access)))
        return opened[-1]

    yield connected
    for found in opened:
        found.close()


@pytest.fixture
def server(monkeypatch):
    """A server that is said to be the Hub."""
    found = FaultServer()
    monkeypatch.setenv("HF_ENDPOINT", found.url(""))
    yield found
    found.close()
