"""The command line: `python -m benchmarks --help`."""

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import PHASES
from benchmarks.models import MODELS, Shape
from benchmarks.readers import READERS
from benchmarks.report import growth_table, table
from benchmarks.series import Setting, measure, save, saved
from benchmarks.server import PROFILES
from benchmarks.sets import SETS, grow
from benchmarks.systems import SYSTEMS

ABOUT = """\
How long a model takes to load through lazyfs, and through what people would use instead.

Everything runs on this machine: a server with a shaped link, the system under test, the process that loads.
Needs root (mounts, and dropping the page cache) and what `make bench` installs."""

EXAMPLES = """\
examples:
  python -m benchmarks --profile s3 --reader mmap --runs 5 --save s3-mmap
  python -m benchmarks --phases cold warm hot --systems lazyfs s5cmd disk --layers 4 --runs 1
  python -m benchmarks set main          # the tables of the README, saved
  python -m benchmarks grow              # seconds per GB from 1 to 8 GB
  python -m benchmarks table s3-mmap     # a saved table
  python -m benchmarks plot s3-mmap slow-mmap --out docs/benchmarks.png
  python -m benchmarks systems           # what can be measured here
"""


def main(words: list[str] | None = None) -> None:
    """Run one of the commands; without the name of one, measure."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] not in (*COMMANDS, "-h", "--help"):
        words = ["run", *words]
    options = _parser().parse_args(words)
    # mounts, namespaces and files in memory are to go away, however this ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    call: Callable[[argparse.Namespace], int] = options.call
    sys.exit(call(options))


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=ABOUT, epilog=EXAMPLES, formatter_class=form
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (call, about, options) in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=about,
            description=about,
            epilog=_glossary() if name == "run" else None,
            formatter_class=form,
        )
        options(one)
        one.set_defaults(call=call)
    return parser


def _glossary() -> str:
    """Return what each choice means."""
    groups = {
        "profiles": {name: one.about for name, one in PROFILES.items()},
        "readers": {name: one.about for name, one in READERS.items()},
        "systems": {name: one.about for name, one in SYSTEMS.items()},
        "models": MODELS,
    }
    parts = []
    for title, entries in groups.items():
        parts += [f"{title}:", *(f"  {name:13} {about}" for name, about in entries.items()), ""]
    return "\n".join(parts)


def _measuring(parser: argparse.ArgumentParser, runs: int) -> None:
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--runs", type=int, default=runs, metavar="N", help=f"turns; default {runs}")
    parser.add_argument(
        "--limit", type=float, default=300.0, metavar="S", help="a run that takes longer has failed"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where caches and downloads go: the disk to measure"
    )
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", choices=PROFILES, default="s3", help="the link; default s3")
    parser.add_argument("--reader", choices=READERS, default="mmap", help="who loads; default mmap")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=["cold"], help="default cold")
    parser.add_argument("--model", choices=MODELS, default="sharded", help="default sharded")
    parser.add_argument("--layers", type=int, default=16, help="122 MB each; the default 16 make 2.1 GB")
    parser.add_argument("--shards", type=int, default=4, help="default 4")
    _measuring(parser, runs=5)


def _run(options: argparse.Namespace) -> int:
    setting = Setting(
        options.profile,
        options.reader,
        tuple(options.systems),
        tuple(options.phases),
        options.runs,
        Shape(options.model, options.layers, options.shards),
        options.limit,
    )
    return _one(setting, options.work, options.save)


def _one(setting: Setting, work: Path | None, name: str | None) -> int:
    """Measure, print and save one series; return 1 if a system failed."""
    document = measure(setting, work)
    print(table(document), end="\n\n", flush=True)
    if name:
        sys.stderr.write(f"saved {save(document, name)}\n")
    return 1 if document["failures"] else 0


def _set_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=SETS, nargs="?", default="main", help="default main")
    parser.add_argument("--runs", type=int, metavar="N", help="turns, for all of the set")
    parser.add_argument("--layers", type=int, metavar="N", help="another size, to try the set out")
    parser.add_argument("--work", type=Path, metavar="DIR")
    parser.add_argument("--prefix", default="", help="begins the names of what is saved")


def _set(options: argparse.Namespace) -> int:
    failed = 0
    for name, setting in SETS[options.name].items():
        chosen = replace(setting, runs=options.runs or setting.runs)
        if options.layers:
            chosen = replace(chosen, shape=replace(chosen.shape, layers=options.layers))
        failed |= _one(chosen, options.work, options.prefix + name)
    return failed


def _grow_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes-gb", nargs="+", type=int, default=[1, 2, 4, 8], metavar="GB")
    parser.add_argument(
        "--shards", nargs="+", type=int, default=[4, 8, 16, 64], metavar="N", help="for each size"
    )
    parser.add_argument("--profile", choices=PROFILES, default="unshaped")
    parser.add_argument("--reader", choices=READERS, default="mmap")
    _measuring(parser, runs=3)
    parser.set_defaults(systems=["lazyfs", "s5cmd"], save="growth")


def _grow(options: argparse.Namespace) -> int:
    base = Setting(
        options.profile, options.reader, tuple(options.systems), runs=options.runs, limit_s=options.limit
    )
    document = grow(base, list(zip(options.sizes_gb, options.shards, strict=True)), options.work)
    print(growth_table(document["points"]))
    sys.stderr.write(f"saved {save(document, options.save)}\n")
    return 1 if any(point["failures"] for point in document["points"]) else 0


def _names_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="of benchmarks/results/NAME.json, or a path")


def _plot_options(parser: argparse.ArgumentParser) -> None:
    _names_option(parser)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.png"), metavar="FILE")


def _plot(options: argparse.Namespace) -> int:
    from benchmarks.plot import plot  # noqa: PLC0415 - only drawing needs matplotlib

    plot([saved(name) for name in options.names], options.out)
    sys.stderr.write(f"wrote {options.out}\n")
    return 0


def _table(options: argparse.Namespace) -> int:
    for name in options.names:
        document = saved(name)
        print(growth_table(document["points"]) if "points" in document else table(document), end="\n\n")
    return 0


def _systems(_options: argparse.Namespace) -> int:
    for name, system in SYSTEMS.items():
        missing = ", ".join(system.missing())
        print(f"{name:10} {system.about}" + (f" - MISSING {missing}: {system.cure}" if missing else ""))
    return 0


Command = tuple[Callable[[argparse.Namespace], int], str, Callable[[argparse.ArgumentParser], None]]
COMMANDS: dict[str, Command] = {
    "run": (_run, "measure one series: a profile, a reader, several systems in turns", _run_options),
    "set": (_set, "measure several series and save them", _set_options),
    "grow": (_grow, "measure models of growing size", _grow_options),
    "table": (_table, "print saved series as Markdown", _names_option),
    "plot": (_plot, "draw saved series", _plot_options),
    "systems": (_systems, "say which systems can be measured here", lambda _: None),
}
