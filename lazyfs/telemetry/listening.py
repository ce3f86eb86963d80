"""The socket of the HTTP endpoint: bound once by whoever holds the mount, served by one worker after another.

So a port that is taken shows before anything is mounted, and who asks while a worker is replaced waits a
moment and is not refused.
"""

import socket

from lazyfs.errors import UsageError

BACKLOG = 16


def listen(address: tuple[str, int]) -> socket.socket:
    """Return a listening socket at host and port.

    Raises:
        UsageError: when that is not possible.

    """
    try:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror.split(" (")[0] if error.strerror else str(error)
        raise UsageError(
            f"cannot listen on {address[0]}:{address[1]}: {reason}", "choose another --http address"
        ) from None
