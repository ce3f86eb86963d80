"""The demo: a model in a real S3 server behind a slow link; an engine starts by download, and on lazyfs.

Everything lives in one temporary directory and ends with the `with` blocks it was made in, also on Ctrl-C.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from rich.console import Console

from lazyfs.demo.loading import checksums
from lazyfs.demo.model import LAYER_BYTES, ModelShape, make_model
from lazyfs.demo.seaweed import SeaweedFS
from lazyfs.demo.timeline import Start, picture, table
from lazyfs.errors import LazyfsError
from lazyfs.fuse.channel import detach
from lazyfs.fuse.liveness import Liveness, read_status
from lazyfs.telemetry.status import bytes_text, from_json

BUCKET, PREFIX = "models", "llama"
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """How large a model, in how many shards, over how fast a link (bytes a second)."""

    size_bytes: int
    shards: int
    link_bytes_per_s: float


class Demo:
    """One run of the demo; `play` does everything in order."""

    def __init__(self, wishes: Wishes, console: Console) -> None:
        self._wishes = wishes
        self._console = console

    def play(self) -> bool:
        """Run it; return whether every tensor was right every time."""
        with ExitStack() as stack:
            stack.enter_context(_ends_on_sigterm())
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lazyfs-demo-")))
            _be_alone()
            with self._step("Making a model"):
                size = self._make(work)
            with self._step("Starting SeaweedFS, an S3 server, on loopback"):
                server = stack.enter_context(SeaweedFS(work / "seaweed"))
            with self._step(f"Uploading {bytes_text(size)} to s3://{BUCKET}/{PREFIX}"):
                self._upload(server, work / "original")
            speed = f"{bytes_text(self._wishes.link_bytes_per_s)}/s"
            link = stack.enter_context(_link(server.port, self._wishes.link_bytes_per_s))
            environment = server.environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{link}"}
            results = []
            with self._step(f"Download, then load, over a link of {speed}"):
                results.append(self._download_then_load(environment, work))
            shutil.rmtree(work / "download")
            with self._step("lazyfs mount, and loading while it streams"):
                results.append(self._mount_and_load("lazyfs, first start", environment, work))
            with self._step("lazyfs mount again: the cache is on disk"):
                results.append(self._mount_and_load("lazyfs, second start", environment, work))
        return self._tell(results)

    @contextmanager
    def _step(self, text: str) -> Iterator[None]:
        began_s = time.monotonic()
        with self._console.status(f"{text} ..."):
            yield
        self._console.print(f"{text}: {time.monotonic() - began_s:.1f} s", highlight=False)

    def _make(self, work: Path) -> int:
        layers = max(1, round(self._wishes.size_bytes / LAYER_BYTES))
        size = make_model(work / "original", ModelShape(layers, min(layers, self._wishes.shards), seed=7))
        (work / "checksums.json").write_text(json.dumps(checksums(work / "original")))
        return size

    def _upload(self, server: SeaweedFS, directory: Path) -> None:
        client = _client(server.environment | {"AWS_ENDPOINT_URL": server.endpoint_url})
        client.create_bucket(Bucket=BUCKET)
        for file in sorted(directory.iterdir()):
            client.upload_file(str(file), BUCKET, f"{PREFIX}/{file.name}")

    def _download_then_load(self, environment: dict[str, str], work: Path) -> "Loaded":
        target, partial = work / "download", work / "partial"
        partial.mkdir()
        with _reader(target, work / "checksums.json") as reader:
            began_s = time.time()
            client = _client(environment)
            files = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/")["Contents"]
            with ThreadPoolExecutor(len(files)) as threads:
                list(
                    threads.map(
                        lambda f: client.download_file(BUCKET, f["Key"], str(partial / Path(f["Key"]).name)),
                        files,
                    )
                )
            partial.rename(target)
            return Loaded.of("download, then load", began_s, reader)

    def _mount_and_load(self, name: str, environment: dict[str, str], work: Path) -> "Loaded":
        mountpoint = work / "mnt"
        mountpoint.mkdir(exist_ok=True)
        with _reader(mountpoint, work / "checksums.json") as reader:
            began_s = time.time()
            with _mounted(mountpoint, environment, work):
                loaded = Loaded.of(name, began_s, reader)
                document = read_status(mountpoint)
                fetched = 0 if isinstance(document, Liveness) else from_json(document)["bytes_fetched"]
                return loaded.with_note(f"{bytes_text(fetched)} fetched")

    def _tell(self, results: "list[Loaded]") -> bool:
        self._console.print()
        starts = [result.start for result in results]
        for line in [*picture(starts), "", *table(starts), ""]:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)
        wrong = [f"{result.start.name}: {tensor}" for result in results for tensor in result.wrong]
        if wrong:
            self._console.print(
                f"WRONG: {len(wrong)} tensors differ from the original: {wrong[:3]}", markup=False
            )
        else:
            self._console.print("Every tensor equals the original, each time.")
            first, second, download = starts[1].first_s, starts[2].first_s, starts[0].first_s
            text = (
                f"The first weights were there after {first:.1f} s, and after {second:.1f} s the second time"
            )
            self._console.print(f"{text}; a download gives none for {download:.1f} s.", highlight=False)
        return not wrong


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one way of starting took, and which tensors it got wrong."""

    start: Start
    wrong: tuple[str, ...]

    @classmethod
    def of(cls, name: str, began_s: float, reader: "subprocess.Popen[str]") -> "Loaded":
        """Wait for the reader to end; `began_s` is when the command was given."""
        assert reader.stdout is not None
        said = reader.stdout.readline()
        if not said:
            raise LazyfsError(f"{name}: the reader failed, see above")
        times: dict[str, Any] = json.loads(said)
        ready, first, last = (times[key] - began_s for key in ("ready", "first", "last"))
        return cls(Start(name, ready, first, last), tuple(times["wrong"]))

    def with_note(self, note: str) -> "Loaded":
        """Return the same with a remark for the table."""
        start = self.start
        return Loaded(Start(start.name, start.ready_s, start.first_s, start.last_s, note), self.wrong)


def _be_alone() -> None:
    """Forget what this machine has configured for AWS, and its proxies: the demo talks to its own server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _client(environment: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


@contextmanager
def _reader(directory: Path, expected: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the reader, which waits for the directory; its imports are not part of what is measured."""
    with _running([sys.executable, "-m", "lazyfs.demo.loading", str(directory), str(expected)]) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        yield reader


@contextmanager
def _link(upstream_port: int, bytes_per_s: float) -> Iterator[int]:
    """Start the link; give the port it listens on."""
    command = [sys.executable, "-m", "lazyfs.demo.link", str(upstream_port), str(bytes_per_s)]
    with _running(command) as link:
        assert link.stdout is not None
        yield int(link.stdout.readline())


@contextmanager
def _mounted(mountpoint: Path, environment: dict[str, str], work: Path) -> Iterator[None]:
    """Run `lazyfs mount`, as a user would."""
    command = [sys.executable, "-m", "lazyfs", "mount", f"s3://{BUCKET}/{PREFIX}", str(mountpoint)]
    options = ["--cache-dir", str(work / "cache"), "--log-file", str(work / "mount.log")]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAZYFS_"))}
    try:
        with _running(command + options, environment={**inherited, **environment}):
            yield
    finally:
        detach(mountpoint)


@contextmanager
def _running(
    command: list[str], environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in a session of its own, so that Ctrl-C is ours alone; end it with the block."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Make SIGTERM unwind the stack, as Ctrl-C does."""

    def unwind(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def play(size_bytes: int, shards: int, link_bytes_per_s: float) -> bool:
    """Play the demo on this terminal; return whether every tensor was right."""
    return Demo(Wishes(size_bytes, shards, link_bytes_per_s), Console()).play()
