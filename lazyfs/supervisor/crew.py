"""The workers of one mount: the one that serves, the one that is coming, those that are leaving.

Here is who follows whom and when, and who has to go; not what is said to them.
"""

import logging
import os
import time
from typing import Any

from lazyfs.core.restarts import Restarts
from lazyfs.errors import LazyfsError
from lazyfs.fuse.intake import REGIONS
from lazyfs.supervisor.messages import Kind
from lazyfs.supervisor.spare import take
from lazyfs.supervisor.worker import Stage, Worker

log = logging.getLogger(__name__)

WEDGED_S = 8.0
"""A worker that says nothing for so long is killed. It beats twice a second."""
START_S = 12.0
"""So long one that takes over may need until it serves; the first one may list for as long as it takes."""
STUCK_S = 3.0
"""So long after SIGKILL one counts as gone, be it gone or not."""
RETIRE_S = 10.0
END_S = 1.0


class Crew:
    """The workers. Those in `workers` live, or nobody has taken note of their end."""

    def __init__(self, order: dict[str, Any], fds: tuple[int, ...], region: int = -1) -> None:
        """`order` and `fds` are what every worker is told and handed; `region`: the last one before."""
        self._order = order
        self._fds = fds
        self._restarts = Restarts()
        self.workers: list[Worker] = []
        self.next_at_s: float | None = time.monotonic()
        """When to start one; None while there is one that serves, or is coming."""
        self._region = region
        self.undone = False
        """Whether one that is gone has left requests unanswered."""

    @property
    def serving(self) -> Worker | None:
        """The one that serves."""
        return next((w for w in self.workers if w.stage is Stage.SERVING), None)

    @property
    def coming(self) -> Worker | None:
        """The one that will serve."""
        return next((w for w in self.workers if w.stage in {Stage.STARTING, Stage.JOINING}), None)

    def start(self, *, first: bool = False) -> None:
        """Start one; `first`: nothing is mounted yet."""
        self.next_at_s = None
        known = {"first": first, "restarts": self._restarts.count, "supervisor": os.getpid()}
        try:
            spare = take([self._order["source"], self._order["mountpoint"]])
        except OSError as error:
            if first:
                raise LazyfsError(
                    f"no process can be started: {error}", "is there memory, and a free process id?"
                ) from None
            log.error("worker_not_started error=%r", str(error))  # noqa: TRY400 - it says all there is to say
            if self.serving is None:
                now_s = time.monotonic()
                self.next_at_s = now_s + self._restarts.died(now_s, served=False)
            return
        self.workers.append(Worker(spare, self._order | known, self._fds, self._vacant()))

    def _vacant(self) -> int:
        """Return the region that nobody has, and nobody has had for longest."""
        vacant = self.vacated or list(range(REGIONS))
        self._region = min(vacant, key=lambda region: (region - self._region - 1) % REGIONS)
        return self._region

    @property
    def vacated(self) -> list[int]:
        """The regions of those that are gone."""
        taken = {worker.region for worker in self.workers}
        return [region for region in range(REGIONS) if region not in taken]

    def relieve(self, successor: Worker) -> None:
        """Let `successor` serve from now on, and the one before it answer what it has taken and end."""
        before = self.serving
        if before is not None:
            before.control.send(Kind.DRAIN)
            before.enter(Stage.RETIRING)
        successor.enter(Stage.SERVING)

    def renew_access(self) -> None:
        """Tell the workers what the order says of credentials: those that come are told with the order."""
        for worker in self.workers:
            if worker.stage is not Stage.DOOMED:
                worker.control.send(Kind.ACCESS, {"environment": self._order["environment"]})

    def judge(self, worker: Worker, now_s: float, *, mounted: bool) -> bool:
        """Kill a worker that does not do in time what it should; return whether its end is to be noted."""
        here_s = now_s - worker.stage_at_s
        if worker.ended is not None or (worker.stage is Stage.DOOMED and here_s > STUCK_S):
            worker.kill()
            return True
        why = None
        if worker.stage is Stage.SERVING and now_s - worker.heard_at_s > WEDGED_S:
            why = f"it has not answered for {WEDGED_S:.0f} s"
        elif worker.stage is Stage.RETIRING and here_s > RETIRE_S:
            why = "it does not end"
        elif worker is self.coming and mounted and here_s > START_S:
            why = "it does not begin"
        if why is not None:
            log.warning("worker_killed pid=%d why=%r", worker.pid, why)
            self.doom(worker)
        return False

    def doom(self, worker: Worker) -> None:
        """Kill a worker that is not dying already."""
        if worker.stage is not Stage.DOOMED:
            worker.kill()
        self.dying(worker)

    def dying(self, worker: Worker) -> None:
        """Take note that one is dying. If it served, the next is due now, not at the end of this one."""
        served = worker.stage is Stage.SERVING
        if worker.stage is not Stage.DOOMED:
            worker.enter(Stage.DOOMED)
        if served:
            self._follow(worker)

    def _follow(self, worker: Worker) -> None:
        worker.followed = True
        delay_s = self._restarts.died(time.monotonic(), served=worker.served)
        if self.coming is None:
            self.next_at_s = time.monotonic() + delay_s

    def bury(self, worker: Worker) -> None:
        """Take note of a worker's end; who follows it must be sent again what it has left undone."""
        self.workers.remove(worker)
        worker.close()
        self.undone = self.undone or (worker.served and not worker.drained)
        if worker.drained or (worker.served and self.serving is not None and not worker.followed):
            log.info("worker_relieved pid=%d unanswered=%s", worker.pid, not worker.drained)
        elif self.serving is not None and not worker.served:
            log.error("upgrade_failed why=%r consequence=%r", worker.how, "the one that serves goes on")
        else:
            if not worker.followed:
                self._follow(worker)
            log.warning("worker_died pid=%d how=%r restarts=%d", worker.pid, worker.how, self._restarts.count)

    def forgive(self, now_s: float) -> None:
        """Blame nobody for having been silent until now."""
        for worker in self.workers:
            worker.heard_at_s = now_s

    def end(self) -> bool:
        """End them all; return whether they are gone."""
        for worker in self.workers:
            if worker.stage is Stage.STARTING or not worker.control.send(Kind.END):
                worker.kill()
        deadline_s = time.monotonic() + END_S
        for worker in self.workers:
            if not worker.wait(max(0.0, deadline_s - time.monotonic())):
                worker.kill()
        gone = [worker.wait(END_S) for worker in self.workers]
        for worker in self.workers:
            worker.close()
        return all(gone)
