"""Fixtures for all tests, and the rules they enforce.

* A test without the mark `real` starts no process and uses no socket, so `make test-fast` needs neither.
* Who opened a socket or started a process has closed it: garbage is collected after such a test.
* A warning in the log fails the test that did not expect it.
"""

import functools
import gc
import inspect
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import settings

from lazyfs.demo.seaweed import SeaweedFS

# `make test` plays the same examples each time, `make test-slow` and `make chaos` more of them, and new ones.
settings.register_profile("default", deadline=None, max_examples=20, derandomize=True)
settings.register_profile("many", deadline=None, max_examples=200, print_blob=True)
settings.register_profile("chaos", deadline=None, max_examples=1500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A shell has background jobs ignore SIGINT, and nohup has them ignore SIGHUP: all they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ASYNC_TIMEOUT_S = 60.0

REAL_DIRECTORIES = {"aws", "chaos", "csi", "deploy", "e2e", "faults", "hub", "pull", "vllm"}
REAL_FIXTURES = {"hub_server", "seaweed", "server", "web"}
# What the interpreter's audit hooks call the start of a process and the use of a socket. A trio loop makes a
# pair of sockets for itself and connects neither.
REAL_EVENTS = {
    "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto",
}  # fmt: skip

_real_events_seen: set[str] = set()


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in REAL_EVENTS or (event == "open" and arguments[0] == "/dev/fuse"):
        _real_events_seen.add(event)


sys.addaudithook(_note)  # for good: there is no way to remove one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is real by its directory or its fixtures; all else carries the mark itself."""
    tests = Path(__file__).parent
    for item in items:
        directory = item.path.relative_to(tests).parts[0]
        if directory in REAL_DIRECTORIES or not REAL_FIXTURES.isdisjoint(item.fixturenames):
            item.add_marker("real")


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of later collections of garbage: they take a tenth of the time."""
    gc.collect()
    gc.freeze()
    _real_events_seen.clear()  # what modules do when they are imported is no test's


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests in trio; with a `mock_clock` argument, on a clock that jumps when all wait."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

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
def _real_is_marked_and_cleaned_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have unclosed sockets show in the test that left them; elsewhere collecting garbage only costs time."""
    yield
    seen = sorted(_real_events_seen)  # also by fixtures of a module, which come before this one
    _real_events_seen.clear()
    if seen:
        gc.collect()
        assert request.node.get_closest_marker("real"), f"mark it `real`: it caused {seen}"


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
