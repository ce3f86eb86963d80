"""The hosts in trouble: who may ask them, and who hears that one is up again."""

import logging
from collections.abc import Callable

import trio

from lazyfs.core.breaker import Breaker
from lazyfs.errors import LazyfsError, SourceThrottled, SourceUnavailable, SourceUnreachable

log = logging.getLogger(__name__)


class Held(Exception):
    """A flight's host is down and it is not its turn to try: it should rest."""


class Breakers:
    """A breaker for each host that has failed since it was last well."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}
        self._reasons: dict[str, str] = {}
        self.up: Callable[[str], None] = _nobody
        """Told when a host that was down is up again."""

    def __contains__(self, host: str) -> bool:
        """Tell whether there has been trouble. Any thread may ask."""
        return host in self._breakers

    @property
    def down(self) -> tuple[str, ...]:
        """The hosts to which requests are held. Any thread may ask."""
        return tuple(host for host, breaker in list(self._breakers.items()) if breaker.down)

    def reason(self, host: str) -> str:
        """Return what was wrong with a host last."""
        return self._reasons.get(host, f"{host} is down")

    def wait_s(self, host: str, *, waited: bool) -> float:
        """Return after how long a request to the host would be let through."""
        breaker = self._breakers.get(host)
        return 0.0 if breaker is None else breaker.wait_s(trio.current_time(), waited=waited)

    def admit(self, host: str, *, waited: bool) -> bool:
        """Let a request through, or not."""
        breaker = self._breakers.get(host)
        return breaker is None or breaker.admit(trio.current_time(), waited=waited)

    @property
    def speculate(self) -> bool:
        """Whether there is a point in beginning what nobody waits for."""
        return not any(self.wait_s(host, waited=False) for host in self.down)

    def answered(self, host: str, about: int, error: LazyfsError | None) -> None:
        """Take note of how a request about an object ended; every proper answer is a sign of life."""
        if not isinstance(error, SourceUnavailable) or isinstance(error, SourceThrottled):
            self.alive(host)
            return
        breaker = self._breakers.setdefault(host, Breaker())
        was_down, self._reasons[host] = breaker.down, error.cause
        breaker.failed(trio.current_time(), None if isinstance(error, SourceUnreachable) else about)
        if breaker.down and not was_down:
            log.warning(
                "host_down host=%r error=%r consequence=%r",
                host,
                error.cause,
                "one request at a time tries it",
            )

    def alive(self, host: str) -> None:
        """Take note of a sign of life."""
        breaker = self._breakers.pop(host, None)
        self._reasons.pop(host, None)
        if breaker is not None and breaker.down:
            log.info("host_up host=%r", host)
            self.up(host)


def _nobody(_host: str) -> None:
    """Hear it."""
