"""The life of a mount, seen by the process that holds it.

It mounts, keeps the FUSE descriptor and the kernel's INIT message, and has a worker serve them. A worker that
dies is followed by another one, one that does not answer is killed first, one that is relieved (SIGHUP) goes
on until its successor is ready. Readers wait meanwhile, for `--abort-after` at most: then they get errors.

This process never touches the mount, and imports neither pyfuse3 nor a client of any source: it must be small
and boring, for nobody watches over it. When it dies, its worker dies with it, and the kernel ends the mount.
"""

import dataclasses
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lazyfs.config import MountOptions, default_cache_dir, to_document
from lazyfs.errors import LazyfsError, MountpointError, Reported
from lazyfs.fuse.channel import require_device
from lazyfs.supervisor.crew import END_S, Crew
from lazyfs.supervisor.holding import Holding, Own, Wanted
from lazyfs.supervisor.messages import Kind, Message
from lazyfs.supervisor.preflight import claimed
from lazyfs.supervisor.privileges import make_for
from lazyfs.supervisor.signals import ACCESS, DUMP, END, RENEW, Calls, Signals
from lazyfs.supervisor.worker import Stage, Worker
from lazyfs.telemetry.listening import listen

log = logging.getLogger(__name__)

TICK_S = 1.0
LAG_S = 2.0
"""When this process itself was stopped for so long, no worker is to blame for silence."""
DYING_S = 0.01
"""A worker that is dying is waited for so long at a time; giving its memory back may take longer."""
ANSWER_S = 10.0
LASTED_S = 0.5
LABEL_MAX = 1000
"""Characters; some take several bytes."""
LEAVING_MAX = 3
"""So many workers may still be answering what they have taken when yet another one is asked for."""

Announce = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What a supervisor is called by in its log, and how long readers wait while nobody serves them, in s."""

    name: str
    patience_s: float


class Supervisor:
    """Has one mount served. `run` returns when it is over."""

    def __init__(
        self, terms: Terms, holding: Holding, crew: Crew, signals: Calls, announce: Announce
    ) -> None:
        self._terms = terms
        self._holding = holding
        self._crew = crew
        self._signals = signals
        self._announce = announce
        self._session = holding.session
        self._untuned: list[str] | None = None
        self._began_at_s = time.time()
        # One that somebody else has had served before is ready, and may have been left with requests.
        taken_over = self._session is not None
        self._ready_after_s: float | None = 0.0 if taken_over else None
        crew.undone = taken_over
        self._proven = taken_over
        """Whether the directory has answered."""
        self._served_at_s = self._looked_at_s = time.monotonic()
        self._waits: dict[str, Any] = {}
        """The reads that waited when a worker last said so, and since when: it may not answer them."""
        self._renewing = False
        """Whether somebody has asked for the version that is installed now."""
        self._over = False

    def run(self) -> None:
        """Mount, and see to it that it is served until it is unmounted or a signal ends it.

        Raises:
            LazyfsError: whatever keeps it from being mounted, or ended it; nothing is left mounted.

        """
        try:
            while not self._over:
                self._look_after()
                if not self._over:
                    self._wait()
        finally:
            self._end()

    # -- what happens --------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for a message, a signal or the next moment there is something to do; see to it."""
        poller, by_fd = select.poll(), {}
        poller.register(self._signals.fd, select.POLLIN)
        for worker in self._crew.workers:
            by_fd[worker.control.sock.fileno()] = worker
            poller.register(worker.control.sock, select.POLLIN)
        wait_s, next_at_s = TICK_S, self._crew.next_at_s
        if next_at_s is not None:
            wait_s = min(TICK_S, max(0.0, next_at_s - time.monotonic()))
        for fd, _ in poller.poll(wait_s * 1000):
            if fd == self._signals.fd:
                self._heed(self._signals.take())
            else:
                self._listen(by_fd[fd])

    def _heed(self, numbers: set[int]) -> None:
        """Do what signals ask for."""
        ending = numbers & set(END)
        if RENEW in numbers:
            if self._signals.hung_up():
                ending.add(RENEW)
            else:
                self._renewing = True
        if ACCESS in numbers:
            self._crew.renew_access()
        if DUMP in numbers:
            for worker in self._crew.workers:
                if worker.stage is not Stage.STARTING:  # it does not know that signal yet
                    worker.tell(DUMP)
        if ending:
            log.info("ending signal=%s mountpoint=%r", signal.Signals(min(ending)).name, self._terms.name)
            self._over = True

    def _listen(self, worker: Worker) -> None:
        """Take what a worker says; that it will say nothing more means that it is dying."""
        while worker in self._crew.workers:
            try:
                message = worker.control.receive()
            except BlockingIOError:
                return
            if message is None:
                self._crew.dying(worker)
                if worker.wait(DYING_S):
                    self._bury(worker)
                return
            worker.heard_at_s = time.monotonic()
            if message.kind == Kind.BEAT:
                self._holding.progressed(message.fields)
                if worker is self._crew.serving:
                    self._waits = message.fields.get("waits", {})
            self._hear(worker, message)

    def _hear(self, worker: Worker, message: Message) -> None:
        if message.kind == Kind.FAILED:
            worker.said = message.fields
        elif message.kind == Kind.PREPARED and worker.stage is Stage.STARTING:
            self._hand_over(worker)
        elif message.kind == Kind.REPLY and worker.stage is Stage.JOINING:
            self._settle(worker, bytes.fromhex(message.fields["reply"]))
        elif message.kind == Kind.SERVING and worker.stage is Stage.SERVING:
            self._welcome(worker)
        elif message.kind == Kind.READY and self._ready_after_s is None:
            self._ready_after_s = message.fields["status"]["ready_after_s"]
            self._announce(message.fields["status"])
        elif message.kind == Kind.DRAINED:
            worker.drained = message.fields["unanswered"] == 0
        elif message.kind == Kind.UNMOUNTED:
            self._over = self._over or self._session is None or self._is_over()

    # -- workers -------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Start the successor of the worker that serves, once not too many others are still leaving."""
        crew = self._crew
        if crew.coming is None and crew.serving is not None and len(crew.workers) <= LEAVING_MAX:
            log.info("upgrade_began mountpoint=%r", self._terms.name)
            crew.start()
            self._renewing = False

    def _hand_over(self, worker: Worker) -> None:
        """Give a worker the descriptor and INIT; before the first one, mount."""
        if self._session is None:
            self._session = self._holding.open()
        said = {"init": self._session.init.hex(), "region": worker.region, "waits": self._waits}
        fds = self._session.channel.fd, self._holding.table
        worker.control.send(Kind.SERVE, said, tuple(fd for fd in fds if fd is not None))
        worker.enter(Stage.JOINING)

    def _settle(self, worker: Worker, reply: bytes) -> None:
        """Give the kernel a worker's reply to INIT, and let it relieve the one that served."""
        assert self._session is not None
        if not self._session.settle(reply):
            worker.said = {"error": "it speaks FUSE otherwise than the one before", "cure": "mount again"}
            self._crew.doom(worker)
            return
        if self._untuned is None:
            self._untuned = self._holding.agreed(reply)
        self._crew.relieve(worker)
        self._crew.undone = self._crew.undone and self._session.resends
        self._send_again()
        worker.control.send(Kind.GO, {"left": self._crew.vacated})

    def _send_again(self) -> None:
        """Have what one that is gone has left undone done by the one that serves now."""
        serving = self._crew.serving
        if self._session is None or serving is None or not self._crew.undone:
            return
        self._crew.undone = False
        if self._session.resends:
            self._session.resend()
        else:
            serving.control.send(Kind.UNDONE, {"left": self._crew.vacated})

    def _welcome(self, worker: Worker) -> None:
        """Take note that a worker serves; the first time, see whether the directory answers."""
        worker.served = True
        self._holding.served(worker.region)
        if self._ready_after_s is None:
            self._prove(worker)
            return
        log.info("worker_serves pid=%d seconds=%.2f", worker.pid, time.monotonic() - worker.began_at_s)
        self._tell_ready(worker, self._ready_after_s, first=False)

    def _tell_ready(self, worker: Worker, ready_after_s: float, *, first: bool) -> None:
        found = {"untuned": self._untuned or [], "ready_after_s": ready_after_s, "first": first}
        worker.control.send(Kind.READY, found)

    def _prove(self, worker: Worker) -> None:
        """See whether the mount answers; if it does not yet, it is asked again later.

        Raises:
            MountpointError: when it does not answer for long.

        """
        if self._holding.answers():
            self._proven = True
            self._tell_ready(worker, time.time() - self._began_at_s, first=True)
        elif time.monotonic() - worker.stage_at_s > ANSWER_S:
            raise MountpointError(f"{self._terms.name} does not answer", "see the log; then mount it again")

    def _bury(self, worker: Worker) -> None:
        """Take note of a worker's end.

        Raises:
            LazyfsError: when it was the first one, and could not begin.

        """
        if self._session is None or (self._ready_after_s is None and worker.said is not None):
            raise _failure(worker)
        if self._is_over():
            self._over = True
            return
        self._crew.bury(worker)
        self._send_again()

    def _is_over(self) -> bool:
        """Tell whether it was unmounted.

        Raises:
            LazyfsError: when its connection was aborted: nobody has unmounted it.

        """
        if self._session is None or not self._session.over:
            return False
        if self._holding.in_place():
            log.warning(
                "connection_aborted mountpoint=%r consequence=%r", self._terms.name, "its readers got errors"
            )
            raise LazyfsError(
                f"the connection of {self._terms.name} was aborted: its readers got errors", "mount it again"
            )
        return True

    # -- time ----------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Do what is due: take note of ends, kill the wedged, start the next, give up."""
        now_s, mounted = time.monotonic(), self._session is not None
        if now_s - self._looked_at_s > LAG_S:
            self._crew.forgive(now_s)
            self._served_at_s = now_s
        self._looked_at_s = now_s
        if self._is_over():
            self._over = True
            return
        for worker in list(self._crew.workers):
            if worker.ended is not None:
                self._listen(worker)  # its last words
            if worker in self._crew.workers and self._crew.judge(worker, now_s, mounted=mounted):
                self._bury(worker)
        self._give_up_in_time(now_s)
        self._start_what_is_due(now_s)

    def _start_what_is_due(self, now_s: float) -> None:
        crew = self._crew
        if crew.next_at_s is not None and now_s >= crew.next_at_s:
            crew.start(first=self._session is None)
        if self._renewing:
            self._renew()
        if crew.serving is not None and crew.serving.served and not self._proven:
            self._prove(crew.serving)

    def _give_up_in_time(self, now_s: float) -> None:
        """Let readers wait for a worker, but not for ever: without one they cannot even be killed."""
        patience_s, serving = self._terms.patience_s, self._crew.serving
        # One that dies as soon as it serves, of the very read it is to answer, helps nobody.
        lasted = serving is not None and serving.heard_at_s - serving.stage_at_s >= LASTED_S
        if self._session is None or lasted:
            self._served_at_s = now_s
        elif now_s - self._served_at_s > patience_s:
            raise LazyfsError(
                f"nobody served {self._terms.name} for {patience_s:.0f} s: its readers got errors",
                "see the log for what kept it; then mount again",
            )

    def _end(self) -> None:
        """Unmount, end the workers, and close the descriptor: whoever still waits gets an error."""
        self._holding.detach(END_S)  # the end has a bound
        self._holding.close(gone=self._crew.end())


def label_of(sources: Sequence[str]) -> str:
    """Return one text for all sources, cut where it is too long for the kernel (a page)."""
    text = " ".join(sources)
    return text if len(text) <= LABEL_MAX else f"{text[: LABEL_MAX - 3]}..."


def _failure(worker: Worker) -> LazyfsError:
    """Return why a mount could not begin."""
    said = worker.said
    if said is not None:
        code, what = said.get("exit_code", LazyfsError.exit_code), said.get("what", "")
        return Reported(said["error"], said["cure"], code, what)
    return LazyfsError(
        f"the process that serves the mount ended: {worker.how}", "see its log; is there memory?"
    )


def supervise(
    sources: Sequence[str],
    mountpoint: Path,
    options: MountOptions,
    announce: Announce,
    *,
    terminal: bool = False,
) -> None:
    """Mount `sources` at `mountpoint` and hold it until it is over.

    `announce` is given the status once the directory answers. On a `terminal`, the worker shows progress.

    Raises:
        LazyfsError: see `Supervisor.run`.

    """
    cache_dir = (options.cache_dir or default_cache_dir()).absolute()
    options = dataclasses.replace(options, cache_dir=cache_dir)
    with ExitStack() as ends:
        signals = ends.enter_context(Signals().caught())
        claim = ends.enter_context(ExitStack())
        path = claim.enter_context(claimed(mountpoint))
        require_device()
        fds = [os.memfd_create("lazyfs-manifest", os.MFD_CLOEXEC)]
        ends.callback(os.close, fds[0])
        if options.http is not None and not options.no_http:
            fds.append(ends.enter_context(listen(options.http)).fileno())
        if options.user is not None and options.cache_size != 0:
            make_for(options.user, cache_dir)
        order: dict[str, Any] = {
            "source": label_of(sources),
            "sources": list(sources),
            "mountpoint": str(path),
            "options": to_document(options),
            "owner": [os.geteuid(), os.getegid()],
            "started_at": time.time(),
            "terminal": terminal,
        }
        crew = Crew(order, tuple(fds))
        own = Own(Wanted(order["source"], path, options, claim))
        Supervisor(Terms(str(path), options.abort_after), own, crew, signals, announce).run()
