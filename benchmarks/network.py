"""A link that all connections share: the server in a network namespace, behind a token bucket of the kernel.

It costs no process and no core of the machine that is measured, and TCP shares it as it shares a real link.
It needs root with CAP_NET_ADMIN and `ip` and `tc`; where that is missing, a relay takes its place
(`lazyfs.demo.link`).
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Self

FRAME_BYTES, PAYLOAD_BYTES = 1514, 1448
"""A full Ethernet frame, and what of it is content: the bucket counts frames, a profile counts content."""
BURST, QUEUE = "256kb", "4mb"
NEAR, FAR = "198.18.{0}.1", "198.18.{0}.2"
"""Addresses set aside for benchmarks (RFC 2544)."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace with one link of `rate_mb` MB/s, for the length of a `with` block."""

    rate_mb: int

    @property
    def name(self) -> str:
        """Its name, and that of the near end of its link."""
        return f"lzb{os.getpid()}"

    @property
    def address(self) -> str:
        """The address of what listens in it."""
        return FAR.format(os.getpid() % 256)

    def prefix(self) -> list[str]:
        """Return what a command begins with to run in it."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        """Make it."""
        name, near = self.name, NEAR.format(os.getpid() % 256)
        rate = f"{self.rate_mb * 8 * FRAME_BYTES // PAYLOAD_BYTES}mbit"
        inside = ["-n", name]
        try:
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", name, "type", "veth", "peer", "name", "far", "netns", name)
            _run("ip", "addr", "add", f"{near}/30", "dev", name)
            _run("ip", "link", "set", name, "up")
            _run("ip", *inside, "addr", "add", f"{self.address}/30", "dev", "far")
            _run("ip", *inside, "link", "set", "lo", "up")
            _run("ip", *inside, "link", "set", "far", "up")
            bucket = ["tbf", "rate", rate, "burst", BURST, "limit", QUEUE]
            _run("tc", *inside, "qdisc", "add", "dev", "far", "root", *bucket)
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it; the link goes with it."""
        subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)


def _run(*command: str) -> None:
    """Run a command.

    Raises:
        OSError: when it cannot, with what it said.

    """
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]} is not installed (apt-get install iproute2)")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
