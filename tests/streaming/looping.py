"""A trio loop in a thread of its own, whose clock moves only when it is told to.

Hypothesis' state machines are synchronous. With this their rules run coroutines in a loop that stays alive
between the rules, with everything that waits in it.
"""

import math
import threading

import trio
import trio.testing


class Looping:
    """Runs coroutine functions, one after the other, for a thread outside."""

    def __init__(self) -> None:
        self._clock = trio.testing.MockClock()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), kwargs={"clock": self._clock})
        self._thread.start()
        assert self._begun.wait(60)

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._begun.set()
            await trio.sleep_forever()

    def run(self, function, *arguments):
        """Run a coroutine function in the loop, and return or raise what it does."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    async def jump(self) -> float:
        """Let the clock jump to when the next task wants to wake; return how far that was."""
        wait_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
        assert wait_s < math.inf, "nothing will ever happen again"
        self._clock.jump(max(wait_s, 0.0))
        return wait_s

    def close(self) -> None:
        """Cancel everything, and wait for its end."""
        self.run(self._cancel)
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _cancel(self) -> None:
        self.nursery.cancel_scope.cancel()
