"""What a Hub-like server holds: repositories, their commits, and files known by their hashes."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LARGE_BYTES = 10 << 20
"""Files from here on are in large file storage; so are those that `LARGE_NAMES` end."""
LARGE_NAMES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".gguf",
    ".onnx",
    ".h5",
    ".msgpack",
    ".arrow",
    ".parquet",
)
PIECE_BYTES = 8 << 20


class Stored:
    """The content of one version of a file: in memory, or a file of this machine that does not change."""

    def __init__(self, name: str, content: bytes | Path, large_bytes: int = LARGE_BYTES) -> None:
        self.content = content
        self.size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self.large = self.size >= large_bytes or name.endswith(LARGE_NAMES)

    def pieces(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    @cached_property
    def sha256(self) -> str:
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece)
        return found.hexdigest()

    @cached_property
    def oid(self) -> str:
        """What git calls it: the SHA-1 of the blob; of a pointer, when the content is not in git."""
        pieces, size = self.pieces(), self.size
        if self.large:
            pointer = self.pointer
            pieces, size = iter((pointer,)), len(pointer)
        found = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for piece in pieces:
            found.update(piece)
        return found.hexdigest()

    @property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return text.encode()

    @cached_property
    def xet_hash(self) -> str:
        """Not Xet's Merkle hash, but of its form."""
        return hashlib.sha256(b"xet" + self.sha256.encode()).hexdigest()

    @property
    def storage_etag(self) -> str:
        """What the storage calls it, which is not what the Hub does."""
        return f'"{self.xet_hash[:32]}-{1 + self.size // PIECE_BYTES}"'


@dataclass(frozen=True)
class Commit:
    sha: str
    files: dict[str, Stored]


class Repository:
    """A model or a dataset. `readers` are the users who may read it when it is private or gated."""

    def __init__(
        self,
        name: str,
        kind: str = "models",
        *,
        private: bool = False,
        gated: str | bool = False,
        readers: tuple[str, ...] = (),
        large_bytes: int = LARGE_BYTES,
    ) -> None:
        self._large_bytes = large_bytes
        self.name = name
        self.kind = kind
        self.private = private
        self.gated = gated
        self.readers = readers
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self._count = itertools.count()
        self.commit({})

    def commit(self, changes: Mapping[str, bytes | Path | None], ref: str = "main") -> str:
        """Put files, or take away those that are None, on top of what `ref` points to; return the commit."""
        parent = self.refs.get(ref) or self.refs.get("main")
        files = dict(self.commits[parent].files) if parent is not None else {}
        for name, content in changes.items():
            if content is None:
                del files[name]
            else:
                files[name] = Stored(name, content, self._large_bytes)
        listing = "\n".join(f"{files[name].oid} {name}" for name in sorted(files))
        identity = f"{self.kind}/{self.name} {next(self._count)} {parent}\n{listing}"
        sha = hashlib.sha1(identity.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
        self.commits[sha] = Commit(sha, files)
        self.refs[ref] = sha
        return sha

    def add(self, root: Path, ref: str = "main") -> str:
        """Commit all files below a directory; they must not change."""
        found = {str(file.relative_to(root)): file for file in sorted(root.rglob("*")) if file.is_file()}
        return self.commit(found, ref)

    def forget(self, sha: str) -> None:
        """Drop a commit, as rewriting the history does."""
        del self.commits[sha]

    def at(self, revision: str) -> Commit | None:
        """Return what a branch, a tag, a commit or the start of its hash stands for."""
        whole = self.commits.get(self.refs.get(revision, revision))
        if whole is not None:
            return whole
        short = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return self.commits[short[0]] if len(short) == 1 else None
