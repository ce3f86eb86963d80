"""Serving a channel with pyfuse3, which keeps its session in module globals: one mount per process."""

import signal

import pyfuse3

from lazyfs.fuse.operations import Operations

MIN_TASKS, MAX_TASKS = 8, 10_000
"""A waiting read takes a task. The kernel bounds them: `tuning.MAX_BACKGROUND`, and one a reader's thread."""
INTERRUPT_S = 1.0


async def serve(fd: int, operations: Operations) -> None:
    """Answer requests on `fd` until the file system is unmounted, or this is cancelled.

    libfuse reads requests with a blocking read when poll says there is one. If the caller of that request
    dies just in between, the read waits for the next request and the whole process with it. A signal a second
    ends such a wait: libfuse returns EINTR, and pyfuse3 polls again.
    """
    previous = signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_S, INTERRUPT_S)
    try:
        pyfuse3.init(operations, f"/dev/fd/{fd}", set(pyfuse3.default_options))
        try:
            await pyfuse3.main(min_tasks=MIN_TASKS, max_tasks=MAX_TASKS)
        finally:
            # Closes the descriptor: whoever still waits gets an error instead of waiting for ever.
            pyfuse3.close(unmount=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
