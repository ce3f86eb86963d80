"""The processes of a reader: started, told to begin, heard out."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.readers import READERS

TRUTH_S = 300.0


class RunFailed(Exception):
    """A system did not do what it should; the others are measured all the same."""


class Readers:
    """The processes of a reader, which have done their imports once this is made, and wait for the word."""

    def __init__(self, name: str, directory: Path, module: str, variables: dict[str, str]) -> None:
        command = [sys.executable, "-m", module, str(directory), name]
        self._processes = [
            subprocess.Popen(
                [*command, str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
            )
            for rank in range(READERS[name].ranks)
        ]
        for process in self._processes:
            if self._line(process) != b"waiting\n":
                self.close()
                raise RunFailed("the reader did not start")

    @staticmethod
    def _line(process: "subprocess.Popen[bytes]") -> bytes:
        assert process.stdout is not None
        return process.stdout.readline()

    @property
    def pids(self) -> set[int]:
        """Their process ids."""
        return {process.pid for process in self._processes}

    def say_go(self) -> None:
        """Let them begin to look for the directory."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()

    def results(self, deadline_s: float, check: Callable[[], None]) -> dict[str, float | int]:
        """Wait for what they say: the first answers, the last bytes, the sums; `check` raises to give up."""
        said: list[dict[str, float | int]] = []
        left = {process.stdout: process for process in self._processes if process.stdout is not None}
        while left:
            readable, _, _ = select.select(list(left), [], [], 0.2)
            for stream in readable:
                line = self._line(left.pop(stream))
                if not line:
                    raise RunFailed("a reader failed")
                said.append(json.loads(line))
            if left and time.monotonic() > deadline_s:
                raise RunFailed("it took too long")
            if left:
                check()
        return gathered(said)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.communicate()


def gathered(said: list[dict[str, float | int]]) -> dict[str, float | int]:
    """Return what all ranks together did."""
    checksum = 0
    for one in said:
        checksum = (checksum + int(one["checksum"])) % 2**64
    return {
        "ready": min(one["ready"] for one in said),
        "first": min(one["first"] for one in said),
        "last": max(one["last"] for one in said),
        "bytes": sum(one["bytes"] for one in said),
        "piece_p50_s": max(one["piece_p50_s"] for one in said),
        "piece_p99_s": max(one["piece_p99_s"] for one in said),
        "checksum": checksum,
    }


def truth(directory: Path, reader: str) -> str:
    """Return the checksum that every run must have, from the files themselves."""
    readers = Readers(reader, directory, "benchmarks.readers", dict(os.environ))
    try:
        readers.say_go()
        return checksum_text(readers.results(time.monotonic() + TRUTH_S, lambda: None))
    finally:
        readers.close()


def checksum_text(times: dict[str, float | int]) -> str:
    return f"{int(times['checksum']):016x}"
