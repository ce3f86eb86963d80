"""The page a person gets, and the document a machine gets. Pure."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from lazyfs.bench.ceiling import Ceiling
from lazyfs.bench.disk import Disk
from lazyfs.bench.node import Node
from lazyfs.bench.report import Linked, Listed, Report
from lazyfs.core.advice import FRESH_SHARE, Forecast, Measured, Part, Verdict
from lazyfs.telemetry.status import bytes_text, duration_text, printable

BAR_WIDTH = 30
LABEL_WIDTH = 9
_LIMITS = {
    Part.LINK: "the link",
    Part.DISK: "the disk of the cache",
    Part.FUSE: "FUSE: faster processors would help",
    Part.MEMORY: "memory that its host must give first",
    Part.CPU: "CPU time: more processors would help",
}


def as_json(report: Report) -> str:
    """Return everything as one JSON object: bytes, seconds, bytes a second, CPU seconds a byte."""
    return json.dumps(asdict(report), indent=1)


def as_lines(report: Report) -> Iterator[str]:
    """Yield the page."""
    yield from _labelled("node", _node(report.node))
    yield from _labelled("model", _model(report.model))
    yield from _labelled("request", _request(report.link))
    yield from _labelled("link", _curve(report.link))
    yield from _labelled("disk", _disk(report))
    yield from _labelled("FUSE", _fuse(report))
    yield from _labelled("CPU", _cpu(report.measured))
    yield ""
    yield from _verdict(report.verdict, report.model)
    fetched, took = bytes_text(report.link.asked_bytes), duration_text(report.seconds)
    yield f"Measuring this downloaded {fetched} and took {took}."


def _labelled(label: str, lines: Iterator[str]) -> Iterator[str]:
    for place, line in enumerate(lines):
        yield f"{'' if place else label:{LABEL_WIDTH}}{line}"


def _node(node: Node) -> Iterator[str]:
    yield (
        f"{node.cpus:g} CPU{'' if node.cpus == 1 else 's'}, {bytes_text(node.memory_limit_bytes)} of memory, "
        f"{bytes_text(node.memory_budget_bytes)} of it for blocks; Linux {node.kernel}"
    )


def _model(model: Listed) -> Iterator[str]:
    files = f"{model.files} file{'' if model.files == 1 else 's'}"
    yield printable(model.source)
    yield f"{bytes_text(model.size_bytes)} in {files}, reached and listed in {model.list_s:.2f} s"


def _request(link: Linked) -> Iterator[str]:
    latency = link.latency
    yield (
        f"first byte after {_ms(latency.median_s)}, one in twenty after {_ms(latency.p95_s)}; "
        f"a new connection {_ms(latency.first_request_s)}"
    )


def _curve(link: Linked) -> Iterator[str]:
    best = max(measurement.step.bytes_per_s for measurement in link.curve)
    yield "connections   MB/s each   MB/s in all"
    for measurement in link.curve:
        step = measurement.step
        bar = "█" * max(1, round(BAR_WIDTH * step.bytes_per_s / best))
        each, total = _mb(step.bytes_per_s / step.connections), _mb(step.bytes_per_s)
        yield f"{step.connections:>11}   {each:>9}   {total:>11}   {bar}"
        if measurement.trouble:
            yield f"{step.failed} of them failed: {printable(measurement.trouble)}"
    if link.repeated:
        yield "More was read than the model holds: what was read again may have come from a cache."


def _disk(report: Report) -> Iterator[str]:
    yield f"{printable(report.cache_dir)}, room for {bytes_text(report.measured.capacity_bytes)}"
    disk = report.disk
    if not isinstance(disk, Disk):
        yield f"not measured: {disk.why}"
        return
    rates = disk.rates
    yield f"writes {_mb(rates.write_bytes_per_s)} MB/s, reads {_mb(rates.read_bytes_per_s)} MB/s"
    if not disk.direct:
        yield "This file system has no O_DIRECT: slower, and more memory. ext4 and xfs have it."


def _fuse(report: Report) -> Iterator[str]:
    fuse = report.fuse
    if not isinstance(fuse, Ceiling):
        yield f"not measured: {fuse.why}"
        return
    mapped, read = _mb(fuse.mapped_bytes_per_s), _mb(fuse.read_bytes_per_s)
    yield f"{mapped} MB/s mapped, {read} MB/s by plain reads, when nothing else is slow"
    if fuse.fresh_bytes_per_s < FRESH_SHARE * fuse.mapped_bytes_per_s:
        yield f"{_mb(fuse.fresh_bytes_per_s)} MB/s mapped, into memory that was not used before"
    yield from fuse.untuned


def _cpu(measured: Measured) -> Iterator[str]:
    cold, warm = measured.cold_cpu_s_per_byte, measured.warm_cpu_s_per_byte
    yield f"{cold * 1e9:.1f} s of CPU time per GB of a cold start, {warm * 1e9:.1f} s of a warm one"


def _verdict(verdict: Verdict, model: Listed) -> Iterator[str]:
    yield _forecast("cold start, nothing cached", verdict.cold, model)
    if verdict.warm is not None:
        yield _forecast("warm start, from the cache", verdict.warm, model)
    yield ""
    if not verdict.settings:
        yield "The defaults are right."
        yield ""
        return
    yield "Worth setting:"
    for setting in verdict.settings:
        yield f"  {setting.option}"
        yield f"      {setting.why}"
    yield ""


def _forecast(name: str, forecast: Forecast, model: Listed) -> str:
    return (
        f"A {name}: {bytes_text(model.size_bytes)} in {duration_text(forecast.seconds)}, "
        f"{_mb(forecast.bytes_per_s)} MB/s. The limit is {_LIMITS[forecast.limited_by]}."
    )


def _mb(bytes_per_s: float) -> str:
    """Return megabytes; small numbers with a decimal."""
    megabytes = bytes_per_s / 1e6
    return f"{megabytes:.1f}" if megabytes < 10 else f"{megabytes:,.0f}"  # noqa: PLR2004


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"  # noqa: PLR2004
