"""What goes wrong, one thing after another, by chance from a seed."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.stage import Stage
from tests.faults.mix import FLEETING, Mix

REPLACED_S = 20.0


class Trouble:
    """Does things to the worker, the server and the cache of a stage; `script` says what, and when."""

    def __init__(self, stage: Stage, chance: random.Random, disk: Path | None = None) -> None:
        self._stage = stage
        self._chance = chance
        self._disk = disk
        self._began_s = time.monotonic()
        self.script: list[str] = []
        self.done: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "kill": (4, lambda: self._strike(signal.SIGKILL)),
            "crash": (2, lambda: self._strike(signal.SIGSEGV)),
            "stop": (1, lambda: self._strike(signal.SIGSTOP)),
            "upgrade": (2, self._upgrade),
            "faults": (3, self._faults),
            "outage": (2, lambda: stage.bucket.go_down(chance.uniform(0.1, 1.5))),
            "flip": (3, self._flip),
            "truncate": (2, self._truncate),
            "scribble on a table": (2, self._scribble),
            "remove a blob": (2, lambda: self._remove(self._blobs())),
            "remove the cache": (1, lambda: self._remove([stage.cache])),
            **({"fill the disk": (2, self._fill)} if disk else {}),
        }

    def play(self, seconds: float) -> None:
        """Go on for so long."""
        until_s = time.monotonic() + seconds
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        while time.monotonic() < until_s:
            time.sleep(self._chance.uniform(0.1, 0.8))
            (name,) = self._chance.choices(names, weights)
            self.script.append(f"{time.monotonic() - self._began_s:.2f} {name}")
            self.done[name] += 1
            self._kinds[name][1]()
        self.calm()

    def calm(self) -> None:
        """Let everything be well again."""
        self._stage.bucket.behave = None
        self._stage.bucket.wait_until_up()
        self._drain()

    # -- the process that serves -------------------------------------------------------------------------

    def _strike(self, number: int) -> None:
        with suppress(ValueError):  # just now there is none, or two
            worker = self._stage.mount.worker
            os.kill(worker, number)
            self._replaced(worker)

    def _upgrade(self) -> None:
        with suppress(ValueError):
            worker = self._stage.mount.worker
            self._stage.mount.process.send_signal(signal.SIGHUP)
            self._replaced(worker)

    def _replaced(self, worker: int) -> None:
        deadline_s = time.monotonic() + REPLACED_S
        while worker in (children := self._stage.mount.children()) or len(children) != 1:
            assert time.monotonic() < deadline_s, self.script
            time.sleep(0.01)

    # -- the server --------------------------------------------------------------------------------------

    def _faults(self) -> None:
        self._stage.bucket.behave = Mix(self._chance.randrange(10**6), FLEETING)

    # -- the cache; somebody else may be at it too -------------------------------------------------------

    def _blobs(self) -> list[Path]:
        return sorted(self._stage.cache.glob("v2/objects/*/*"))

    def _some_file(self, name: str) -> Path | None:
        found = [blob / name for blob in self._blobs() if (blob / name).exists()]
        return self._chance.choice(found) if found else None

    def _flip(self) -> None:
        self._overwrite("data", 64)

    def _scribble(self) -> None:
        self._overwrite("blocks", 1)

    def _overwrite(self, name: str, times: int) -> None:
        path = self._some_file(name)
        with suppress(OSError):
            if path is not None and (size := path.stat().st_size):
                with path.open("r+b") as file:
                    for _ in range(times):
                        file.seek(self._chance.randrange(size))
                        file.write(self._chance.randbytes(3))
                os.truncate(path, size)

    def _truncate(self) -> None:
        path = self._some_file(self._chance.choice(["data", "blocks"]))
        with suppress(OSError):
            if path is not None:
                os.truncate(path, self._chance.randrange(path.stat().st_size + 1))

    def _remove(self, paths: list[Path]) -> None:
        if paths:
            shutil.rmtree(self._chance.choice(paths), ignore_errors=True)

    def _fill(self) -> None:
        """Leave nothing free; a second time, free it again."""
        assert self._disk is not None
        if (self._disk / "filler").exists():
            self._drain()
            return
        with suppress(OSError), (self._disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))

    def _drain(self) -> None:
        if self._disk is not None:
            (self._disk / "filler").unlink(missing_ok=True)
