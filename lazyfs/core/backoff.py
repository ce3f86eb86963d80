"""How long to wait before trying again: full jitter, bounded, the server's own word first.

The formula is the "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter":
`random * min(cap, base * 2**attempt)`. The random number comes from the caller, so this stays pure.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between tries, in seconds."""

    base_s: float = 0.1
    cap_s: float = 10.0
    retry_after_max_s: float = 60.0

    def delay_s(self, attempt: int, chance: float, retry_after_s: float | None = None) -> float:
        """Return the wait before try `attempt + 1` (attempts count from 0), in seconds.

        `chance` is a random number from [0, 1). A server that named a time (`retry_after_s`) gets that time
        plus the jitter, so that its clients do not come back all at once; a malformed or absurd one is
        bounded by `retry_after_max_s`.
        """
        assert attempt >= 0
        assert 0 <= chance < 1
        # 2**30 s is beyond any cap; without the bound a long outage would overflow a float.
        jitter = chance * min(self.cap_s, self.base_s * 2.0 ** min(attempt, 30))
        if retry_after_s is None or retry_after_s < 0:
            return jitter
        return min(retry_after_s, self.retry_after_max_s) + jitter
