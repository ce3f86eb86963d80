"""How far a pull, or the filling of a cache, is."""

from dataclasses import dataclass

from lazyfs.telemetry.status import bytes_text, duration_text


@dataclass(frozen=True, slots=True)
class Transfer:
    """A moment of it: bytes that are done, of how many, how fast they come, and the last error if any."""

    done_bytes: int
    size_bytes: int
    rate_bytes_per_s: float = 0.0
    last_error: str = ""

    @property
    def text(self) -> str:
        """What stands beside a bar."""
        parts = [
            f"{bytes_text(self.done_bytes)} of {bytes_text(self.size_bytes)}",
            f"{bytes_text(self.rate_bytes_per_s)}/s",
        ]
        if self.rate_bytes_per_s:
            left_s = (self.size_bytes - self.done_bytes) / self.rate_bytes_per_s
            parts.append(f"{duration_text(left_s)} to go")
        return ", ".join(parts)
