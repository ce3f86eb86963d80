"""Signals that end a command: what is under way is left where it is, and the exit code says so."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal came."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.exit_code = 128 + number


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end it: one that is ignored, as under nohup(1), does not."""
    return tuple(number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN)


def raise_ended(number: int, _frame: object) -> None:
    """Handle a signal where nothing has to be cleaned up."""
    raise Ended(number)


@asynccontextmanager
async def until_signal() -> AsyncIterator[trio.Nursery]:
    """Give a nursery that is cancelled when a signal comes.

    Raises:
        Ended: then.

    """
    came: list[int] = []

    async def listen(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*ending_signals()) as signals:
            task_status.started()
            async for number in signals:
                came.append(number)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        yield nursery
    if came:
        raise Ended(came[0])
