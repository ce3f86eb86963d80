"""The picture at the end of the demo: what each way of starting spends its time on. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 50


@dataclass(frozen=True, slots=True)
class Start:
    """One way of starting; seconds from its command until each thing was there."""

    name: str
    ready_s: float
    first_s: float
    last_s: float
    note: str = ""


def picture(starts: Sequence[Start]) -> list[str]:
    """Return the lines: dots until the directory is there, hatching until the first tensor, then solid."""
    longest_s = max(start.last_s for start in starts)
    width = max(len(start.name) for start in starts)
    lines = [f"{'':{width}}  0 s{f'{longest_s:.1f} s':>{WIDTH - 3}}"]
    for start in starts:
        ready, first, last = (
            round(WIDTH * seconds / longest_s) for seconds in (start.ready_s, start.first_s, start.last_s)
        )
        bar = "·" * ready + "▒" * (first - ready) + "█" * max(1, last - first)
        lines.append(f"{start.name:{width}}  {bar:{WIDTH}}  {start.last_s:5.1f} s")
    lines.append(f"{'':{width}}  · waiting for a directory   ▒ for the first tensor   █ loading")
    return lines


def table(starts: Sequence[Start]) -> list[str]:
    """Return the same as figures."""
    width = max(len(start.name) for start in starts)
    lines = [f"{'':{width}}  directory   first tensor   all tensors"]
    for start in starts:
        figures = f"{start.ready_s:7.2f} s  {start.first_s:11.2f} s  {start.last_s:10.2f} s"
        lines.append(f"{start.name:{width}}  {figures}   {start.note}".rstrip())
    return lines
