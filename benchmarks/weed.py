"""SeaweedFS as a mount of remote storage: a cluster that runs already, and what it takes to show a bucket.

`python -m benchmarks.weed serve WEED DIR PORT x 6` starts a cluster and says `ready`.
`python -m benchmarks.weed mount WEED DIR PORT x 6 ENDPOINT MOUNTPOINT` makes the bucket known to it, mounts
it in the foreground, and meanwhile lets the cluster bring all content into its volumes (`remote.cache`).
"""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START_TIMEOUT_S = 60.0
MOUNTED_DIRECTORY = "/model"


def serve(weed: str, directory: str, ports: list[str]) -> None:
    """Become a cluster, and let somebody else say when it answers."""
    master, master_grpc, volume, volume_grpc, filer, filer_grpc = ports
    if os.fork() == 0:
        # The child waits and speaks; the parent becomes the server, so that it can be stopped by its id.
        _wait(f"http://127.0.0.1:{filer}/")
        os.write(1, b"ready\n")
        os._exit(0)
    command = [
        weed, "-logtostderr=true", "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-master.port.grpc={master_grpc}", f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
        "-volume.allowUntrustedRemoteEndpoints", "-filer.allowUntrustedRemoteEndpoints",
        "-master.volumeSizeLimitMB=1024", "-master.telemetry=false", "-volume.max=0",
        "-volume.minFreeSpace=1", "-filer",
    ]  # fmt: skip
    os.execv(weed, command)


def _wait(url: str) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline_s:
        try:
            with direct.open(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    os._exit(1)


def mount(weed: str, directory: str, ports: list[str], endpoint: str, mountpoint: str) -> None:
    """Show the bucket `models` and become the process that serves it."""
    known = Path(directory) / "known"
    if not known.exists():
        access = "-s3.access_key=benchmark -s3.secret_key=benchmark -s3.region=us-east-1"
        place = f"-s3.endpoint={endpoint}"
        _shell(
            weed,
            ports,
            f"remote.configure -name=bench -type=s3 {access} {place} -s3.force_path_style=true",
            f"remote.mount -dir={MOUNTED_DIRECTORY} -remote=bench/models/model",
        )
        if os.fork() == 0:
            _shell(weed, ports, f"remote.cache -dir={MOUNTED_DIRECTORY} -concurrent=16")
            os._exit(0)
        known.touch()
    command = [
        weed, "-logtostderr=true", "mount", f"-filer=127.0.0.1:{ports[4]}.{ports[5]}", f"-dir={mountpoint}",
        f"-filer.path={MOUNTED_DIRECTORY}", "-readOnly", f"-cacheDir={directory}",
    ]  # fmt: skip
    os.execv(weed, command)


def _shell(weed: str, ports: list[str], *lines: str) -> None:
    """Give commands to the cluster, which may need a moment to choose its leader."""
    where = [f"-master=127.0.0.1:{ports[0]}.{ports[1]}", f"-filer=127.0.0.1:{ports[4]}.{ports[5]}"]
    text = "\n".join(("lock", *lines, "unlock")) + "\n"
    done = subprocess.run([weed, "shell", *where], input=text, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout + done.stderr)


if __name__ == "__main__":
    verb, program, place, *rest = sys.argv[1:]
    if verb == "serve":
        serve(program, place, rest)
    else:
        mount(program, place, rest[:6], *rest[6:])
