"""What runs mean: medians by phase and system, ratios turn by turn, tables. Pure."""

import statistics
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
OURS = "lazyfs"


def summary(
    runs: list[Json], size_bytes: int, link_s: list[float], disk_mb_per_s: list[float]
) -> dict[str, dict[str, Json]]:
    """Return for each phase and system medians, and its ratios to lazyfs and to the floors."""
    floor_s = {
        "cold": statistics.median(link_s) if link_s else None,
        "warm": size_bytes / statistics.median(disk_mb_per_s) / 1e6 if disk_mb_per_s else None,
    }
    phases: dict[str, dict[str, Json]] = {}
    for phase in dict.fromkeys(run["phase"] for run in runs):
        here = [run for run in runs if run["phase"] == phase]
        ours = [run for run in here if run["system"] == OURS]
        phases[phase] = {}
        for name in sorted({run["system"] for run in here}, key=lambda one: (one != OURS, one)):
            mine = [run for run in here if run["system"] == name]
            row = medians(mine, size_bytes) | {"lazyfs_ratio": ratio(ours, mine, "total_s")}
            row |= {"lazyfs_ratio_to_download": ratio(ours, mine, "download_s")}
            row |= _beside_floor(row, size_bytes, floor_s.get(phase), floor_s["cold"])
            phases[phase][name] = row
    return phases


def medians(runs: list[Json], size_bytes: int) -> Json:
    """Return what one system's runs of one phase took, in the middle; of memory the most."""
    downloads = [run["download_s"] for run in runs if run["download_s"] is not None]
    return {
        "count": len(runs),
        "total_s": _median([run["total_s"] for run in runs]),
        "total_s_min": round(min(run["total_s"] for run in runs), 3),
        "total_s_max": round(max(run["total_s"] for run in runs), 3),
        "ready_s": _median([run["ready_s"] for run in runs]),
        "first_tensor_s": _median([run["first_s"] for run in runs]),
        "download_s": _median(downloads),
        "cpu_s_per_gb": _median([run["cpu_s"] / size_bytes * 1e9 for run in runs]),
        "rss_peak_mb": round(max(run["rss_mb"] for run in runs), 1),
        "rss_after_mb": round(min(runs, key=lambda run: run["turn"])["rss_after_mb"], 1),
        "fetched_bytes": _median([run["fetched_bytes"] for run in runs]),
        "bytes_ratio": _median([run["fetched_bytes"] / run["needed_bytes"] for run in runs]),
        "piece_p50_ms": _median([run["piece_p50_ms"] for run in runs]),
        "piece_p99_ms": _median([run["piece_p99_ms"] for run in runs]),
    }


def ratio(ours: list[Json], theirs: list[Json], over: str) -> float | None:
    """Return the median over turns of our total over their `over`; below 1 we were faster."""
    by_turn = {run["turn"]: run for run in ours}
    pairs = [
        by_turn[run["turn"]]["total_s"] / run[over] for run in theirs if run["turn"] in by_turn and run[over]
    ]
    return _median(pairs)


def _beside_floor(row: Json, size_bytes: int, floor_s: float | None, link_s: float | None) -> Json:
    """Return a total over the floor of its phase, and the share of it for which its bytes fill the link."""
    fetch_s = row["fetched_bytes"] / size_bytes * link_s if link_s else None
    return {
        "floor_ratio": round(row["total_s"] / floor_s, 3) if floor_s else None,
        "link_busy": round(fetch_s / row["total_s"], 3) if fetch_s else None,
    }


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


Column = tuple[str, Callable[[Json], str]]


def _number(name: str, form: str = ".2f") -> Callable[[Json], str]:
    return lambda row: "-" if row[name] is None else format(row[name], form)


def _lazyfs_over(row: Json) -> str:
    """Return how lazyfs's time compares: to the whole, and to the download alone."""
    text = _number("lazyfs_ratio")(row)
    alone = row["lazyfs_ratio_to_download"]
    return text if alone is None else f"{text} ({alone:.2f} of the download)"


_TIMES: list[Column] = [
    ("last tensor, s", _number("total_s")),
    ("directory, s", _number("ready_s")),
    ("first tensor, s", _number("first_tensor_s")),
]
_COSTS: list[Column] = [
    ("CPU s per GB", _number("cpu_s_per_gb")),
    ("peak memory, MB", _number("rss_peak_mb", ".0f")),
]
_RATIO: Column = ("lazyfs takes, of this", _lazyfs_over)
_FLOOR: Column = ("times the floor", _number("floor_ratio"))
COLUMNS: dict[str, list[Column]] = {
    "cold": [
        *_TIMES,
        _RATIO,
        _FLOOR,
        ("link busy", _number("link_busy", ".0%")),
        *_COSTS,
        ("memory after, MB", _number("rss_after_mb", ".0f")),
        ("bytes fetched over needed", _number("bytes_ratio")),
    ],
    "warm": [*_TIMES, _RATIO, _FLOOR, *_COSTS],
    "hot": [_TIMES[0], _RATIO, *_COSTS],
}
_SOME: list[Column] = [("all, s", _number("total_s", ".3f")), _TIMES[1], _RATIO]
SMALL: dict[str, list[Column]] = {
    "headers": [*_SOME, _COSTS[1]],
    "random": [
        *_SOME,
        ("one, median ms", _number("piece_p50_ms", ".1f")),
        ("one, 99th of 100 ms", _number("piece_p99_ms", ".1f")),
        _COSTS[1],
    ],
}
"""Readers of little: what counts is how long it takes, not the bytes."""


def table(document: Json) -> str:
    """Return a document as text: what it is, and a table for each phase."""
    model = document["model"]
    gb = model["size_bytes"] / 1e9
    files = "one file" if model["kind"] == "single" else f"{model['shards']} shards"
    head = f"{document['reader']}, {document['profile']}: {gb:.2f} GB ({model['kind']}, {files}), "
    parts = [head + f"{document['turns']} turns, {document['machine']['cores']} cores"]
    for phase, rows in document["phases"].items():
        columns = SMALL.get(document["reader"], COLUMNS[phase])
        parts += ["", f"**{phase}**{_floor_text(document, phase)}", "", *_lines(rows, columns)]
    parts += [f"left out: {name} ({reason})" for name, reason in document.get("left_out", {}).items()]
    parts += [f"failed: {text}" for text in document["failures"]]
    return "\n".join(parts)


def _floor_text(document: Json, phase: str) -> str:
    floors = document["floors"]
    if phase == "cold" and floors["link_s"]:
        return f" (floor of the link: {statistics.median(floors['link_s']):.2f} s)"
    if phase == "warm" and floors["disk_mb_per_s"]:
        rate = statistics.median(floors["disk_mb_per_s"])
        return f" (floor of the disk: {document['model']['size_bytes'] / rate / 1e6:.2f} s)"
    return ""


def _lines(rows: dict[str, Json], columns: list[Column]) -> list[str]:
    head = "| system | " + " | ".join(name for name, _ in columns) + " |"
    rule = "|" + " --- |" * (len(columns) + 1)
    body = [
        f"| {name} | " + " | ".join(form(row) for _, form in columns) + " |" for name, row in rows.items()
    ]
    return [head, rule, *body]


def growth_table(points: list[Json]) -> str:
    """Return a growth series: seconds per GB of each system, for each size."""
    names = list(dict.fromkeys(name for point in points for name in point["phases"]["cold"]))
    lines = ["| GB | shards | " + " | ".join(f"{name}, s per GB" for name in names) + " |"]
    lines.append("|" + " --- |" * (len(names) + 2))
    for point in points:
        gb = point["model"]["size_bytes"] / 1e9
        cells = [
            f"{point['phases']['cold'][name]['total_s'] / gb:.2f}" if name in point["phases"]["cold"] else "-"
            for name in names
        ]
        lines.append(f"| {gb:.2f} | {point['model']['shards']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
