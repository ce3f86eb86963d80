import pytest

from tests.faults.server import FaultServer


@pytest.fixture
def server(pattern_bytes):
    found = FaultServer(pattern_bytes(100_000))
    yield found
    found.close()
