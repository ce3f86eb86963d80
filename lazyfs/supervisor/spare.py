"""A worker process that has been started and not been told anything yet: it imports, and waits.

Importing takes longer than everything else about a start. So `lazyfs mount` starts its first worker before it
reads its own command line (`early`): a directory is there 0.1 s sooner.
"""

import socket
import subprocess
import sys
from contextlib import suppress

from lazyfs.supervisor.messages import Control

MODULE = "lazyfs.mount"
"""By name: what a worker imports, its supervisor must not."""
_NOT_EARLY = {"--daemon", "--help", "-h"}
"""With these there is no mount, or its supervisor is another process."""


class Spare:
    """The process, and our end of the socket to it. It ends by itself when that is closed."""

    def __init__(self, label: list[str]) -> None:
        """Start it, in a process group of its own: a Ctrl-C is the supervisor's. `label` is for ps(1)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self.process = subprocess.Popen(
                    # -P: a trio.py in the directory where somebody types `lazyfs mount` is not ours to run.
                    [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), *label],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,
                )
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        self.control = Control(ours)


_early: list[Spare] = []


def early(arguments: list[str]) -> None:
    """Start a worker if these arguments look as if one will be needed."""
    if arguments[:1] == ["mount"] and not _NOT_EARLY & set(arguments):
        with suppress(OSError):  # what is missing here shows again, and is said then
            _early.append(Spare(arguments[1:]))


def take(label: list[str]) -> Spare:
    """Return the one that was started early, or a new one."""
    return _early.pop() if _early else Spare(label)
