"""`hf://` addresses: which repository, which revision, what of it."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from lazyfs.errors import UsageError

_KINDS = {"models": "models", "datasets": "datasets"}
_OTHER_KINDS = {"spaces", "buckets", "kernels"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
_HOW = "write it like hf://owner/model, hf://owner/model@revision/directory or hf://datasets/owner/name"


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository and a place in it. `path` has no slash at either end; empty, it is all of it."""

    kind: str
    """`models` or `datasets`, as in the API's paths."""
    name: str
    revision: str | None
    path: str

    @property
    def what(self) -> str:
        """What people call it: `model org/name`."""
        return f"{self.kind.removesuffix('s')} {self.name}"

    @property
    def page(self) -> str:
        """The path of its page, and the beginning of those of its files."""
        return f"/{self.name}" if self.kind == "models" else f"/{self.kind}/{self.name}"

    def api(self, what: str, revision: str, path: str = "") -> str:
        """Return a path of the API about a revision of it, and a place in that.

        A revision is one segment, as huggingface_hub writes it: `refs%2Fpr%2F3`. A path keeps its slashes.
        """
        below = f"/{quote(path)}" if path else ""
        return f"/api/{self.kind}/{self.name}/{what}/{quote(revision, safe='')}{below}"

    def file(self, revision: str, path: str) -> str:
        """Return the path that says where a file is."""
        return f"{self.page}/resolve/{quote(revision, safe='')}/{quote(path)}"


def parse(address: str) -> HubAddress:
    """Return what an `hf://` address means.

    `hf://[models/|datasets/]owner/name[@revision|:revision][/path]`. The revision ends at the next slash; one
    with slashes is written with `%2F`, but for `refs/pr/N` and `refs/convert/NAME`. A name of one component
    (`gpt2`) is understood where nothing can be mistaken for its second: at the end, or before a revision.

    Raises:
        UsageError: when it names no repository.

    """
    rest = address.removeprefix("hf://").strip("/")
    first = rest.partition("/")[0]
    if first in _OTHER_KINDS:
        raise UsageError(f"{address}: {first} are not served", "models and datasets are")
    kind = _KINDS.get(first, "models")
    if first in _KINDS:
        rest = rest[len(first) :].strip("/")
    name, revision, path = _split(rest)
    if not all(_NAME.fullmatch(part) for part in name.split("/")) or name.count("/") > 1:
        raise UsageError(f"{address} names no repository of the Hub", _HOW)
    if revision == "":
        raise UsageError(f"{address} names no revision", _HOW)
    return HubAddress(kind, name, revision, path.strip("/"))


def _split(rest: str) -> tuple[str, str | None, str]:
    """Return name, revision and path."""
    found = re.match(r"([^/@:]+(?:/[^/@:]+)?)[@:](refs/(?:pr|convert)/[^/]+|[^/]*)/?(.*)", rest, re.DOTALL)
    if found is not None:
        return found[1], unquote(found[2]), found[3]
    owner, slash, more = rest.partition("/")
    model, _, path = more.partition("/")
    return owner + slash + model, None, path
