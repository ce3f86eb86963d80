"""A link of a given speed: a TCP relay that all connections through it share. It also counts what passes.

It runs as a process of its own in the demo, so that its work is not mistaken for the mount's.
"""

import select
import socket
import threading
import time
from collections.abc import Callable

PIECE_BYTES = 64 << 10
BURST_S = 0.02


class Bucket:
    """Lets `rate_bytes_per_s` through, whoever asks; None is no limit."""

    def __init__(self, rate_bytes_per_s: float | None) -> None:
        self._rate = rate_bytes_per_s
        self._lock = threading.Lock()
        self._free_at_s = time.monotonic()

    def pass_through(self, size_bytes: int) -> None:
        """Wait until `size_bytes` may pass."""
        if self._rate is None:
            return
        with self._lock:
            now_s = time.monotonic()
            self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._rate
            wait_s = self._free_at_s - now_s
        if wait_s > 0:
            time.sleep(wait_s)


class Link:
    """Listens on a port of loopback and relays to `upstream` until closed."""

    def __init__(
        self,
        upstream: tuple[str, int],
        rate_bytes_per_s: float | None = None,
        on_request: Callable[[bytes], None] | None = None,
    ) -> None:
        self._upstream = upstream
        self._down = Bucket(rate_bytes_per_s)
        self._on_request = on_request
        self._lock = threading.Lock()
        self.received_bytes = 0
        """Bytes the upstream has sent, heads included."""
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="link").start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        try:
            with client, socket.create_connection(self._upstream) as server:
                while True:
                    readable, _, _ = select.select([client, server], [], [])
                    if client in readable:
                        sent = client.recv(PIECE_BYTES)
                        if not sent:
                            return
                        if self._on_request is not None:
                            self._on_request(sent)
                        server.sendall(sent)
                    if server in readable:
                        received = server.recv(PIECE_BYTES)
                        if not received:
                            return
                        self._down.pass_through(len(received))
                        with self._lock:
                            self.received_bytes += len(received)
                        client.sendall(received)
        except OSError:
            return  # either side went away

    def close(self) -> None:
        """Stop accepting; connections end with their clients."""
        self._server.close()


def main(upstream_port: int, rate_bytes_per_s: float | None) -> None:
    """Relay to a port of loopback; print the port listened on; run until standard input closes."""
    import sys  # noqa: PLC0415

    link = Link(("127.0.0.1", upstream_port), rate_bytes_per_s)
    sys.stdout.write(f"{link.port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]), float(sys.argv[2]) or None)
