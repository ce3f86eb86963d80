"""Threads that work on one measurement and can be stopped: by an error in one of them, or by a signal."""

import threading
from collections.abc import Callable, Sequence

JOIN_S = 5.0
"""So long the others may take to notice that it is over; who hangs in a system call is left behind."""

Work = Callable[[threading.Event], None]
"""Does its part; returns soon after the event is set."""


def together(works: Sequence[Work]) -> None:
    """Run every work in a thread of its own until all have returned.

    Raises:
        BaseException: what a work has raised first, or a signal's handler; the other works are stopped.

    """
    over = threading.Event()
    raised: list[BaseException] = []

    def run(work: Work) -> None:
        try:
            work(over)
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits
            raised.append(error)
            over.set()

    threads = [threading.Thread(target=run, args=(work,), daemon=True, name="bench") for work in works]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        over.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(JOIN_S)
    if raised:
        raise raised[0]
