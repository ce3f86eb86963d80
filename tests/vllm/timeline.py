"""What each way of starting vLLM spends its time on, as a picture and as figures. Pure."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

WIDTH = 60


@dataclass(frozen=True, slots=True)
class Timeline:
    """One start; seconds from its command until each thing was there, in this order."""

    name: str
    directory_s: float
    imported_s: float
    weights_wanted_s: float
    weights_loaded_s: float
    ready_s: float
    first_token_s: float

    @property
    def seconds(self) -> tuple[float, ...]:
        """All times, in order."""
        return astuple(self)[1:]


_PHASES = (
    ("·", "directory", "waiting for a directory"),
    ("░", "imports done", "importing vLLM"),
    ("▒", "weights wanted", "engine init"),
    ("█", "weights loaded", "loading weights"),
    ("▓", "engine ready", "the rest of the init, first token"),
    ("▓", "first token", ""),
)
"""What is drawn, the head of the column, and what goes on until then."""


def picture(timelines: Sequence[Timeline]) -> list[str]:
    """Return the lines: a bar for each start, a kind of hatching for each phase."""
    longest_s = max(timeline.first_token_s for timeline in timelines)
    width = max(len(timeline.name) for timeline in timelines)
    lines = [f"{'':{width}}  0 s{f'{longest_s:.1f} s':>{WIDTH - 3}}"]
    for timeline in timelines:
        bar = ""
        for (drawn, _, _), seconds in zip(_PHASES, timeline.seconds, strict=True):
            bar += drawn * (round(WIDTH * seconds / longest_s) - len(bar))
        lines.append(f"{timeline.name:{width}}  {bar:{WIDTH}}  {timeline.first_token_s:5.1f} s")
    legend = [f"{drawn} {going_on}" for drawn, _, going_on in _PHASES if going_on]
    return [*lines, *(f"{'':{width}}  {'   '.join(part)}" for part in (legend[:3], legend[3:]))]


def table(timelines: Sequence[Timeline]) -> list[str]:
    """Return the figures, as Markdown."""
    heads = ["from the command, s", *(head for _, head, _ in _PHASES)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    return lines + [_row([line.name, *(f"{each:.1f}" for each in line.seconds)]) for line in timelines]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
