"""Draws saved series: a bar for each system, and a line over the sizes of a growth series."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import OURS

WAIT, FIRST, LOAD = "#d9d9d9", "#9ecae1", "#3182bd"
OUR_FIRST, OUR_LOAD = "#fdae6b", "#e6550d"
PANEL_IN = (6.0, 0.36)
"""Width of a panel, and height of a bar, in inches."""


def plot(documents: list[dict[str, Any]], out: Path) -> None:
    """Draw every phase of every document in a panel of its own, two in a row, into one file."""
    mpl.use("Agg")
    panels: list[tuple[dict[str, Any], str]] = []
    for document in documents:
        panels += (
            [(document, "growth")]
            if "points" in document
            else [(document, phase) for phase in ("cold", "warm", "hot") if phase in document["phases"]]
        )
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    tallest = max(
        len(document["phases"].get(phase, ())) if phase != "growth" else 8 for document, phase in panels
    )
    size = (PANEL_IN[0] * columns, (PANEL_IN[1] * tallest + 1.1) * rows)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for (document, phase), panel in zip(panels, axes, strict=False):
        if phase == "growth":
            _growth(panel, document)
        else:
            _bars(panel, document, phase)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _bars(axes: Axes, document: dict[str, Any], phase: str) -> None:
    """Draw when each system had a directory, the first tensor, the last; the quickest on top."""
    rows = sorted(document["phases"][phase].items(), key=lambda row: -row[1]["total_s"])
    for place, (name, row) in enumerate(rows):
        first, load = (OUR_FIRST, OUR_LOAD) if name == OURS else (FIRST, LOAD)
        edges = [0.0, min(row["ready_s"], row["total_s"]), row["first_tensor_s"], row["total_s"]]
        for color, start, stop in zip((WAIT, first, load), edges, edges[1:], strict=False):
            axes.barh(place, stop - start, left=start, color=color, height=0.7)
        axes.text(row["total_s"], place, f" {row['total_s']:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_xlim(right=max(row["total_s"] for _, row in rows) * 1.1)
    if (floor := _floor_s(document, phase)) is not None:
        axes.axvline(floor, color="black", linestyle=":", linewidth=1)
    axes.set_xlabel(
        "seconds: grey no directory, light no tensor, dark loading; dotted: the floor", fontsize=7
    )
    gb = document["model"]["size_bytes"] / 1e9
    axes.set_title(f"{phase}, {document['reader']}, {document['profile']} ({gb:.1f} GB)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _floor_s(document: dict[str, Any], phase: str) -> float | None:
    """Return the floor of a phase as the report took it."""
    for row in document["phases"][phase].values():
        if row["floor_ratio"]:
            return float(row["total_s"] / row["floor_ratio"])
    return None


def _growth(axes: Axes, document: dict[str, Any]) -> None:
    """Draw seconds per GB over the size."""
    points = document["points"]
    for name in dict.fromkeys(name for point in points for name in point["phases"]["cold"]):
        found = [
            (point["model"]["size_bytes"] / 1e9, point["phases"]["cold"][name]["total_s"])
            for point in points
            if name in point["phases"]["cold"]
        ]
        axes.plot([gb for gb, _ in found], [total_s / gb for gb, total_s in found], marker="o", label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("GB", fontsize=8)
    axes.set_ylabel("seconds per GB", fontsize=8)
    axes.set_title(f"growing models, {document['reader']}, {document['profile']}", fontsize=9)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
