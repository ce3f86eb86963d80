"""The command line: argv and environment become options; every command is one call into the package.

What a command needs is imported when it runs: `lazyfs --help` takes a tenth of a second, and a mount does not
wait for what it does not use.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lazyfs import __version__
from lazyfs.config import (
    BenchOptions,
    ListOptions,
    MountOptions,
    PullOptions,
    SourceOptions,
    WarmOptions,
)
from lazyfs.errors import LazyfsError, UsageError
from lazyfs.flags import with_options
from lazyfs.parsing import parse_size

app = typer.Typer(
    name="lazyfs",
    help="Mount a model directory from object storage at once; the weights stream in behind it.\n\n"
    "lazyfs mount s3://bucket/llama-3-8b /models/llama-3-8b",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Address = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Where the model is: s3://bucket/prefix, hf://owner/model, https://host/directory/ or file:///directory.",
    ),
]
Addresses = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="Where the models are; more than one with --layout hf-cache."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@with_options(MountOptions)
def mount(
    sources: Addresses,
    mountpoint: Annotated[Path, typer.Argument(metavar="MOUNTPOINT", help="An empty directory.")],
    daemon: Annotated[bool, typer.Option("--daemon", help="Return when ready; the mount stays.")] = False,
    *,
    options: MountOptions,
) -> None:
    """Mount a model as a directory.

    It is ready at once, and the bytes stream in behind it. Stays in the foreground; Ctrl-C or SIGTERM
    unmounts, SIGHUP renews the process that serves it. S3 credentials come from the standard AWS chain, the
    Hub's token from HF_TOKEN or the file that `hf auth login` writes.
    Every option can be set by its variable instead.

    \b
    lazyfs mount s3://bucket/llama-3-8b /models/llama-3-8b
    lazyfs mount --endpoint-url https://minio.example.com:9000 s3://bucket/llama /models/llama
    lazyfs mount hf://meta-llama/Llama-3.1-8B@main /models/llama
    lazyfs mount --daemon --cache-dir /mnt/nvme/lazyfs file:///nfs/models/llama /models/llama
    lazyfs mount --layout hf-cache hf://org/one hf://org/two@v1.0 org/three=s3://bucket/three /models

    \b
    Exit codes: 0 unmounted, 2 malformed option, 3 no such source, 4 access denied, 5 source unreachable,
    6 mountpoint unfit, 7 FUSE not available or not permitted, 8 cache directory unfit, 1 anything else.
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    from lazyfs.commands.mounting import mount_attached, mount_detached

    (mount_detached if daemon else mount_attached)(sources, mountpoint, options)


@app.command("pull")
@with_options(PullOptions)
def pull_(
    source: Address,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made if need be.")],
    *,
    options: PullOptions,
) -> None:
    """Download a model into a directory, as plain files.

    In parallel, over as many connections as the link rewards. Blocks that the node's cache has are taken
    from there. A file appears when it is whole, on disk, and what its publisher says it is. A pull that was
    ended, by whatever, goes on where it was when it is started again; one that has nothing to do returns at
    once. Needs neither root nor /dev/fuse.

    \b
    lazyfs pull s3://bucket/llama-3-8b /models/llama-3-8b
        for: aws s3 cp --recursive s3://bucket/llama-3-8b /models/llama-3-8b
    lazyfs pull hf://meta-llama/Meta-Llama-3-8B /models/llama-3-8b
        for: hf download meta-llama/Meta-Llama-3-8B --local-dir /models/llama-3-8b
    lazyfs pull --include '*.safetensors' --include '*.json' s3://bucket/llama /models/llama

    \b
    Exit codes: 0 every file is there and right, 2 malformed option, 3 no such source, 4 access denied,
    5 source unreachable, 6 DIR unfit: not writable, no room, another pull is at work there, 130 Ctrl-C,
    143 SIGTERM, 1 anything else: a file changed meanwhile, or is not what its publisher says.
    """  # noqa: D301 - as above
    from lazyfs.commands import pulling

    _print(pulling.pull_into(source, directory, options))


@app.command()
@with_options(WarmOptions)
def warm(source: Address, *, options: WarmOptions) -> None:
    """Fill the node's cache with a model.

    A mount, or a pull, of the same source then downloads nothing. What is there already is not fetched
    again. Needs neither root nor /dev/fuse; run it as whoever mounts, the cache belongs to one user.

    \b
    lazyfs warm s3://bucket/llama-3-8b
    lazyfs warm --cache-dir /mnt/nvme/lazyfs --cache-size 500GB s3://bucket/llama-3-8b

    \b
    Exit codes: 0 all of it is in the cache, 2 malformed option, 3 no such source, 4 access denied,
    5 source unreachable, 8 cache directory unfit: not writable, or too small, 130 Ctrl-C, 143 SIGTERM,
    1 anything else.
    """  # noqa: D301 - as above
    from lazyfs.commands import warming

    _print(warming.warm(source, options))


@app.command()
def unmount(
    mountpoint: Annotated[Path, typer.Argument(metavar="MOUNTPOINT", help="A lazyfs mount.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even while it is in use, or does not answer.")
    ] = False,
) -> None:
    """Unmount, also after a crash.

    Refuses while files are open, unless --force is given; then their readers get errors.
    """
    from lazyfs.commands import unmounting

    unmounting.unmount(mountpoint, force=force)


@app.command()
def upgrade(
    mountpoint: Annotated[Path, typer.Argument(metavar="MOUNTPOINT", help="A lazyfs mount.")],
) -> None:
    """Have a mount served by the version that is installed now.

    The process that serves it is replaced; readers and open files go on and notice nothing. The small process
    that holds the mount stays as it is. SIGHUP does the same.
    """
    from lazyfs.commands import upgrading

    upgrading.upgrade(mountpoint)


@app.command()
def status(
    mountpoint: Annotated[
        Path | None, typer.Argument(metavar="[MOUNTPOINT]", help="One mount; all of this machine without it.")
    ] = None,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """Show what mounts are doing.

    Phase, bytes, rate, time to go, who waits longest and for what. Works when a mount is dead, and never
    hangs. Exits with 1 when one is dead or does not answer.
    """
    from lazyfs.commands import status as command

    sys.exit(command.show(mountpoint, as_document=json, watch=watch))


@app.command()
def ready(
    mountpoint: Annotated[
        Path | None, typer.Argument(metavar="[MOUNTPOINT]", help="One mount; all of this machine without it.")
    ] = None,
) -> None:
    """Tell whether a mount answers: for probes.

    Exits with 0 when it does, with 1 and one line that says why when it does not, or when nothing is mounted.
    Never hangs, and answers within two seconds.
    """
    from lazyfs.commands import ready as command

    sys.exit(command.show(mountpoint))


@app.command("ls")
@with_options(ListOptions)
def list_(sources: Addresses, json: Json = False, *, options: ListOptions) -> None:
    """List what a mount of SOURCE would show."""
    from lazyfs.commands import listing

    manifest = listing.snapshot(sources, options)
    _print(listing.as_json(manifest) if json else "\n".join(listing.as_lines(manifest)))


@app.command("inspect")
@with_options(SourceOptions)
def inspect_(
    source: Address,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    json: Json = False,
    *,
    options: SourceOptions,
) -> None:
    """Show a model's tensors.

    Names, dtypes and shapes, from the headers only. Exits with 1 when the model has faults.
    """
    from lazyfs.commands import inspection

    found = inspection.inspect_source(source, options)
    _print(inspection.as_json(found) if json else "\n".join(inspection.as_lines(found, tensors=tensors)))
    if found.faults:
        sys.exit(1)


@app.command()
@with_options(SourceOptions)
def publish(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A model's directory.")],
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="s3://bucket/prefix, or a directory; DIR itself, too.")
    ],
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Read files again that look as they did when they were sent.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    json: Json = False,
    *,
    options: SourceOptions,
) -> None:
    """Upload a model, so that whoever mounts it can check it.

    Sends the files of DIR with checksums, and then lazyfs.json: the sha256 of each. What is there already is
    not sent again: run it again after it was broken off, or when some files have changed. Nothing is deleted.
    Hidden files, as in .cache and .git, and *.incomplete are left out.

    \b
    lazyfs publish ./llama-3-8b s3://bucket/llama-3-8b
    lazyfs publish --endpoint-url https://minio.example.com:9000 ./llama s3://bucket/llama
    lazyfs publish /nfs/models/llama /nfs/models/llama

    \b
    Exit codes: 0 published, 2 malformed option, 3 no such directory or bucket, 4 access denied,
    5 destination unreachable, 6 a directory as DEST unfit: not writable, no room, 130 Ctrl-C,
    1 anything else, as a file that was written to meanwhile.
    """  # noqa: D301 - as above
    from lazyfs.commands import publishing

    done = publishing.publish(directory, destination, options, checksum=checksum, dry_run=dry_run)
    _print(publishing.as_json(done) if json else "\n".join(publishing.as_lines(done, dry_run=dry_run)))


@app.command()
@with_options(BenchOptions)
def bench(source: Address, json: Json = False, *, options: BenchOptions) -> None:
    """Measure this node, this link and this source, and say which options to set.

    How long requests take, what 1 to 32 connections bring, what the disk of the cache writes and reads,
    what FUSE can do; how long the model will take, cold and warm, and what limits it. Downloads parts of
    the model, never more than --budget, and keeps nothing. Takes about a quarter of a minute; is best run
    while the node has nothing else to do.

    \b
    lazyfs bench s3://bucket/llama-3-8b
    lazyfs bench --cache-dir /mnt/nvme/lazyfs --budget 1GB s3://bucket/llama-3-8b
    """  # noqa: D301 - as above
    from lazyfs.commands.benchmarking import page_of

    _print(page_of(source, options, as_document=json))


@app.command()
def demo(
    size: Annotated[str, typer.Option(metavar="SIZE", help="How large a model to make.")] = "1GB",
    shards: Annotated[int, typer.Option(min=1, max=1000, help="In how many files.")] = 8,
    link: Annotated[str, typer.Option(metavar="RATE", help="How fast the link to S3 is.")] = "100MB/s",
) -> None:
    """Show the whole story here.

    A real S3 server, a slow link, a model, and the timeline of loading it. Needs the right to
    mount, and `pip install 'lazyfs[demo]'`. Cleans up after itself, also on Ctrl-C.
    """
    wishes = (parse_size(size), shards, float(parse_size(link.removesuffix("/s"))))
    if not wishes[0] or not wishes[2]:
        raise UsageError("a demo needs a model and a link", "give --size and --link more than 0")
    try:
        from lazyfs.demo.story import play
    except ModuleNotFoundError as error:
        raise UsageError(f"the demo needs {error.name}", "pip install 'lazyfs[demo]'") from None
    if not play(*wishes):
        sys.exit(1)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        _print(f"lazyfs {__version__}")
        sys.exit(0)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


_MALFORMED: Any = typer.BadParameter.__base__
"""click's UsageError; some versions of typer bring a click of their own, under another name."""


def main() -> None:
    """Run the command line; whatever a user can do something about is one line and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except LazyfsError as error:
        _refuse(str(error), error.exit_code)
    except _MALFORMED as error:
        command = error.ctx.command_path if error.ctx is not None else "lazyfs"
        _refuse(f"{error.format_message().rstrip('.')}; see {command} --help", UsageError.exit_code)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:  # `lazyfs ls ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes
        sys.exit(0)
    except OSError as error:
        _refuse(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)


def _refuse(text: str, exit_code: int) -> NoReturn:
    logging.shutdown()  # what was logged comes first
    sys.stderr.write(f"lazyfs: {text}\n")
    sys.exit(exit_code)
