"""Writes docs/configuration.md from the fields of `lazyfs.config`; with --check, only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path

from lazyfs.config import (
    BenchOptions,
    ListOptions,
    MountOptions,
    Option,
    SourceOptions,
    StoreOptions,
    TransferOptions,
    environment_name,
    options_of,
)

FILE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

Made from the fields of `lazyfs/config.py` by `make docs`; edit them, not this file.

Every option can be given on the command line or as an environment variable; the command line wins. Sizes are
written like `512MiB` (binary), `100GB` or `100G` (decimal) or in bytes; durations like `300`, `5m`, `250ms`.
Flags take `1` or `0` as variables; options that can be repeated take a list separated by blanks.
"""
SOURCE = "All commands that read a source, and `publish`: how to reach source and destination"
TRANSFER = "`lazyfs mount`, `lazyfs pull` and `lazyfs warm`"
STORE = "`lazyfs mount` and `lazyfs warm`"
LIST = "`lazyfs ls`"
MOUNT = "`lazyfs mount`"
BENCH = "`lazyfs bench`"
FOOT = """\
## S3 credentials

By the standard AWS chain: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`),
`AWS_PROFILE` and the files in `~/.aws`, web identity (IRSA), EKS Pod Identity, ECS and EC2 instance roles,
SSO, a program (`credential_process`). What is given out for a while is renewed before it ends, and once more
when the server refuses it; keys in a file that was written anew are read again then. `AWS_REGION` or
`AWS_DEFAULT_REGION` choose the region; the bucket's own is found by itself, on AWS and where another server
names it.

`AWS_ENDPOINT_URL` is the endpoint of every service: with a web identity, a role or SSO it is asked for
credentials, too. That is right for MinIO and Ceph, whose STS is at the same place. Where S3 is elsewhere than
who gives out credentials, use `--endpoint-url` or `AWS_ENDPOINT_URL_S3`, which are of S3 alone, or
`AWS_ENDPOINT_URL_STS`, `AWS_ENDPOINT_URL_SSO` and `AWS_ENDPOINT_URL_SSO_OIDC`; a profile's `services` section
has the same. STS and SSO are places like sources: `--allow-source` holds for them. With `--user` that user
must be able to read the token of a web identity, and the cache of SSO, for they are read again.

`AWS_CA_BUNDLE` names a CA file for servers with a certificate of one's own, `HTTPS_PROXY`, `HTTP_PROXY` and
`NO_PROXY` the proxies.

## Hugging Face Hub

`hf://[datasets/]owner/name[@revision][/path]`, also `:revision`. The revision is a branch, a tag or a
commit, `main` if there is none; it ends at the next slash, so that one with slashes is written with `%2F`,
but for `refs/pr/N` and `refs/convert/NAME`. A name of one component (`hf://gpt2`, `hf://gpt2@main/path`) is
understood where nothing can be mistaken for its second.

`HF_TOKEN` is the token; without it, what `hf auth login` wrote (`HF_TOKEN_PATH`, `HF_HOME/token`). It is
shown to the Hub and to no other host; `--anonymous` or `HF_HUB_DISABLE_IMPLICIT_TOKEN` leave it out.
`HF_ENDPOINT` is the Hub, `https://huggingface.co` by default; `--endpoint-url` is of S3, and the Hub is never
asked there. With `HF_HUB_OFFLINE` it is not asked at all, and a mount from it refused. What `HF_TOKEN` or the
file holds must be able to be a token: anything else is refused at once, and not repeated.
`REQUESTS_CA_BUNDLE` or `AWS_CA_BUNDLE` and the proxies as for S3.

## HTTP credentials

For `https://` and `http://` sources: `LAZYFS_HTTP_TOKEN` (sent as a bearer token), or `LAZYFS_HTTP_USER` and
`LAZYFS_HTTP_PASSWORD`, or the host's entry in the file `NETRC` names, or in `~/.netrc`; the first of these
that is there. They are sent to the host of the address, and to no other one, wherever it redirects to. The
variables are for whatever `https://` or `http://` address is mounted: of several, on several hosts, each host
gets the same token or password. For several hosts write netrc entries, one a host, and set no variable. A
password in the address is refused: everybody could see it in ps(1). `--anonymous` sends none.
`SSL_CERT_FILE`, `AWS_CA_BUNDLE` or `REQUESTS_CA_BUNDLE` name a CA file, `HTTPS_PROXY`, `HTTP_PROXY` and
`NO_PROXY` the proxies.

## Where sources may be

A mount must not be a way to what only its machine can reach. `--allow-source` says where sources may be;
whoever starts lazyfs for others sets `LAZYFS_ALLOW_SOURCE`.

| word | allows |
| --- | --- |
| `public` | nothing beyond what always is: public addresses |
| `private` | 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7 |
| `loopback` | the machine itself |
| `link-local` | 169.254.0.0/16, fe80::/10, and other addresses at which clouds serve metadata |
| `10.1.0.0/16` | a network |
| `file:///models/*` | a directory and all below it; links that lead out of it are refused |

Without a word everything but `link-local` is allowed; with any, only what is named, and `public`. The address
a connection is about to be made to is what counts, after DNS and redirects, for listing and for bytes, and
for `--endpoint-url` and `HF_ENDPOINT`. Behind a proxy it is the proxy that resolves names: only addresses in
URLs are looked at. The credentials of the machine's own role, which come from such addresses, are not a
source.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done; for `mount`: unmounted, by a signal or from outside |
| 1 | something failed; `mount`: nobody served it for `--abort-after`, or its connection was aborted: \
readers got errors; `status`, `ready`: a mount is dead or silent; `inspect`: the model has faults; \
`pull`: a file has changed meanwhile, or is not what its publisher says; \
`pull`, `warm`: the source is not what its `lazyfs.json` says, or still being published |
| 2 | an argument that cannot be right |
| 3 | no such bucket, prefix or directory, or nothing in it |
| 4 | credentials wrong, missing or insufficient |
| 5 | the source cannot be reached: network, DNS, TLS, time-outs |
| 6 | the mountpoint: missing, not empty, in use, already mounted, not a mount; \
`pull`: the directory: not writable, no room, another pull at work there; \
`publish` to a directory: not writable, no room |
| 7 | no /dev/fuse, or no permission to mount |
| 8 | the cache directory: not writable, full, made by a newer version; `warm`: it does not keep the model |
| 9 | the memory limit is too small for a mount, or for `--memory` |
| 130, 143 | `pull`, `warm`, `bench`: ended by Ctrl-C, by SIGTERM |
"""


def document() -> str:
    """Return the whole page."""
    source, transfer, store = map(options_of, (SourceOptions, TransferOptions, StoreOptions))
    sections = [
        *_section(SOURCE, source),
        *_section(TRANSFER, _beyond(source, transfer)),
        *_section(STORE, _beyond(transfer, store)),
        *_section(MOUNT, _beyond(store, options_of(MountOptions))),
        *_section(LIST, _beyond(source, options_of(ListOptions))),
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
