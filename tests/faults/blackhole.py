"""An address that swallows connections: no answer to a SYN, as behind a broken route or a full table."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port of loopback that nobody can connect to, and nobody is refused."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for filler in (first, second):  # the queue of a listener that accepts nobody is full with these
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]
