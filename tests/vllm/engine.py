"""The process that loads models (`tests/vllm/driver.py`), in the environment where vLLM is installed.

Every wait for it is bounded, and when it fails, its last lines are in the error.
"""

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
ANSWER_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 10.0
_SHOWN_LINES = 60


class EngineFailed(Exception):
    """The engine ended, or did not answer in time; the message holds its last lines."""


class Engine:
    """Takes orders for the length of a `with` block. What it caches lies in `work`, and so does its log."""

    def __init__(self, work: Path, environment: dict[str, str] | None = None) -> None:
        """`environment` is what it has besides the usual, or instead."""
        work.mkdir(parents=True)
        self._own = environment or {}
        self._log = work / "engine.log"
        self._caches = work / "caches"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the process; it imports nothing before its first order."""
        if not PYTHON.exists():
            raise EngineFailed(f"vLLM is not installed in {PYTHON.parents[1]}: run `make test-vllm`")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(PYTHON), str(Path(__file__).with_name("driver.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                cwd=self._log.parent,
                start_new_session=True,
            )
        return self

    def _environment(self) -> dict[str, str]:
        """One process on the CPU, nothing from the network, nothing of what an earlier start has cached."""
        foreign = ("VLLM_", "HF_", "AWS_", "LAZYFS_", "PYTHON")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return inherited | {
            "DO_NOT_TRACK": "1",
            "HF_HOME": str(self._caches / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "VLLM_CACHE_ROOT": str(self._caches / "vllm"),
            "VLLM_CONFIG_ROOT": str(self._caches / "config"),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            **self._own,
        }

    def load(
        self,
        reader: str,
        model: Path | str,
        options: dict[str, Any] | None = None,
        *,
        digest: bool = False,
    ) -> dict[str, Any]:
        """Load a model, a directory or one by its name, by one of the driver's readers; return what it said.

        Raises:
            EngineFailed: when it ends instead, or takes longer than `ANSWER_TIMEOUT_S`.

        """
        assert self._process is not None
        assert self._process.stdin is not None
        order = {"reader": reader, "directory": str(model), "options": options or {}, "digest": digest}
        with suppress(BrokenPipeError):  # its end shows below
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line(f"{reader} {order['options']} on {model}"))
        return found

    def _line(self, doing: str) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline_s, line = time.monotonic() + ANSWER_TIMEOUT_S, b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))
            if not readable:
                raise EngineFailed(f"{doing}: no answer in {ANSWER_TIMEOUT_S:.0f} s\n{self._last_lines()}")
            received = os.read(descriptor, 1 << 20)
            if not received:
                raise EngineFailed(f"{doing}: the engine ended\n{self._last_lines()}")
            line += received
        return line

    def _last_lines(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        return "\n".join(["its last lines:", *lines])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and all it has started."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # One that hangs in a read of a mount ends when the mount does.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
