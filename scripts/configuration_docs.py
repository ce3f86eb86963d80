"""Writes docs/configuration.md from the fields of `lazyfs.config`; with --check, only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path

from lazyfs.config import BenchOptions, MountOptions, Option, SourceOptions, environment_name, options_of

FILE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

Made from the fields of `lazyfs/config.py` by `make docs`; edit them, not this file.

Every option can be given on the command line or as an environment variable; the command line wins. Sizes are
written like `512MiB` (binary), `100GB` or `100G` (decimal) or in bytes; durations like `300`, `5m`, `250ms`.
Flags take `1` or `0` as variables; options that can be repeated take a list separated by blanks.
"""
SOURCE = "`lazyfs mount`, `lazyfs ls`, `lazyfs inspect` and `lazyfs bench`: how to reach the source"
MOUNT = "`lazyfs mount`"
BENCH = "`lazyfs bench`"
FOOT = """\
## S3 credentials

By the standard AWS chain: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`),
`AWS_PROFILE` and the files in `~/.aws`, web identity (IRSA), EKS Pod Identity, ECS and EC2 instance roles,
SSO. `AWS_REGION` or `AWS_DEFAULT_REGION` choose the region; the bucket's own is found by itself on AWS.
`AWS_CA_BUNDLE` names a CA file for servers with a certificate of one's own, `HTTPS_PROXY`, `HTTP_PROXY` and
`NO_PROXY` the proxies.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done; for `mount`: unmounted, by a signal or from outside |
| 1 | something failed; `status`: a mount is dead or does not answer; `inspect`: the model has faults |
| 2 | an argument that cannot be right |
| 3 | no such bucket, prefix or directory, or nothing in it |
| 4 | credentials wrong, missing or insufficient |
| 5 | the source cannot be reached: network, DNS, TLS, time-outs |
| 6 | the mountpoint: missing, not empty, in use, already mounted, not a mount |
| 7 | no /dev/fuse, or no permission to mount |
| 8 | the cache directory: not writable, full, made by a newer version |
"""


def document() -> str:
    """Return the whole page."""
    source = options_of(SourceOptions)
    sections = [
        *_section(SOURCE, source),
        *_section(MOUNT, _beyond(source, options_of(MountOptions))),
        *_section(BENCH, _beyond(source, options_of(BenchOptions))),
    ]
    return "\n".join([HEAD, *sections, FOOT])


def _beyond(shared: dict[str, Option], options: dict[str, Option]) -> dict[str, Option]:
    return {name: option for name, option in options.items() if name not in shared}


def _section(title: str, options: dict[str, Option]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| option | variable | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, option in options.items():
        flag = isinstance(option.default, bool)
        shown = f"`--{name.replace('_', '-')}{'' if flag else f' {option.metavar}'}`"
        default = f"`{option.default}`" if isinstance(option.default, str) else "off" if flag else ""
        yield f"| {shown} | `{environment_name(name)}` | {default} | {option.help} |"
    yield ""


def main() -> None:
    """Write the page, or compare it."""
    if "--check" not in sys.argv:
        FILE.write_text(document())
    elif FILE.read_text() != document():
        sys.exit("docs/configuration.md is not what lazyfs/config.py says; run: make docs")


if __name__ == "__main__":
    main()
