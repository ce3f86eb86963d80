"""Fixtures for all tests, and the rules they enforce: no unexpected warning, no needless sleep."""

import functools
import gc
import inspect
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import settings

from lazyfs.demo.seaweed import SeaweedFS

settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("chaos", deadline=None, max_examples=1500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

ASYNC_TIMEOUT_S = 20.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests in trio; with a `mock_clock` argument, on a clock that jumps when all wait."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        with trio.fail_after(ASYNC_TIMEOUT_S):
            await pyfuncitem.obj(**arguments)

    async def unbounded() -> None:  # a clock that jumps would jump over the bound
        await pyfuncitem.obj(**arguments)

    clock = arguments.get("mock_clock")
    trio.run(unbounded if clock else bounded, clock=clock)
    return True


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.fixture(autouse=True)
def _no_unexpected_warnings(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Fail on a warning in the log that the test does not expect by `@pytest.mark.logs("event")`."""
    caplog.set_level(logging.INFO)
    yield
    expected = {event for mark in request.node.iter_markers("logs") for event in mark.args}
    records = [
        r for r in caplog.get_records("call") if r.name.startswith("lazyfs") and r.levelno >= logging.WARNING
    ]
    surprising = [r.getMessage() for r in records if r.getMessage().split(" ")[0] not in expected]
    assert not surprising


@pytest.fixture(autouse=True)
def _collect_garbage() -> Iterator[None]:
    """Let unclosed files and sockets show in the test that left them."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server for the whole run."""
    with SeaweedFS(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def aws(seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS:
    """The S3 server, with its credentials in the environment and nothing else of AWS there."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAZYFS_"))]:
        monkeypatch.delenv(name)
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return seaweed


@pytest.fixture
def pattern_bytes():
    """Bytes of any length that are the same every time and differ at every block."""

    @functools.cache
    def make(size: int, seed: int = 0) -> bytes:
        import numpy as np

        return np.random.Generator(np.random.SFC64(seed)).bytes(size)

    return make


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"
