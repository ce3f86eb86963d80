import tempfile
from pathlib import Path

import pytest

from tests.vllm.engine import Engine
from tests.vllm.hosting import host
from tests.vllm.model import LARGE, SMALL


@pytest.fixture(scope="session")
def work():
    """A directory for gigabytes: unlike pytest's own, it is gone when the tests are."""
    with tempfile.TemporaryDirectory(prefix="lazyfs-vllm-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def slow_host(work):
    with host(work) as found:
        yield found


@pytest.fixture(scope="session")
def large(slow_host):
    return slow_host.put("large", LARGE)


@pytest.fixture(scope="session")
def small(slow_host):
    return slow_host.put("small", SMALL)


@pytest.fixture(scope="module")
def engine(work):
    """One process for all readers of a module, which import it all but once."""
    with Engine(Path(tempfile.mkdtemp(prefix="engine-", dir=work)) / "readers") as found:
        yield found
