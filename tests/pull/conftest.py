"""A directory as a source whose publisher gives digests, pulled from in this process."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.config import PullOptions
from lazyfs.core.blob import BlobRef, ByteRange
from lazyfs.core.location import Location
from lazyfs.pull import run
from lazyfs.sources import open_source
from lazyfs.sources.base import Access
from lazyfs.streaming import race
from lazyfs.transport.lane import Lane

BLOCK = 256 << 10


class Published:
    """A local source with the sha256 of every file; of some, a wrong one."""

    def __init__(self, address: str) -> None:
        self._source = open_source(address, Access())
        self._root = Path(address.removeprefix("file://"))
        self.wrong: set[str] = set()
        self.silent: set[str] = set()
        """Names without a digest."""

    def list(self) -> Iterator[BlobRef]:
        for blob in self._source.list():
            digest = hashlib.sha256((self._root / blob.name).read_bytes()).hexdigest()
            if blob.name in self.wrong:
                digest = "0" * 64
            yield replace(blob, digest=None if blob.name in self.silent else f"sha256:{digest}")

    def locate(self, blob: BlobRef) -> Location:
        return self._source.locate(blob)

    def close(self) -> None:
        self._source.close()


class Puller:
    """Pulls `source` into `target`; `fetched` are the spans that came from the source."""

    def __init__(self, source: Path, target: Path, cache_dir: Path) -> None:
        self.source, self.target = source, target
        self.published = Published(f"file://{source}")
        self.fetched: list[tuple[str, ByteRange]] = []
        self._cache_dir = cache_dir

    def __call__(self, **options):
        options = {"cache_dir": self._cache_dir, "block_size": BLOCK, **options}
        self.fetched.clear()
        return run.pull(f"file://{self.source}", self.target, PullOptions(**options), lambda _seen: None)

    def names(self) -> set[str]:
        return {
            str(path.relative_to(self.target))
            for path in self.target.rglob("*")
            if path.is_file() and ".lazyfs" not in path.parts
        }

    def right(self) -> bool:
        """Tell whether the target has exactly the source's files."""
        wanted = {
            str(p.relative_to(self.source)): p.read_bytes() for p in self.source.rglob("*") if p.is_file()
        }
        return wanted == {name: (self.target / name).read_bytes() for name in self.names()}


@pytest.fixture
def puller(tmp_path, cache_dir, pattern_bytes, monkeypatch):
    root = tmp_path / "source"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "model-1.safetensors").write_bytes(pattern_bytes(5 * BLOCK + 77, 1))
    (root / "model-2.safetensors").write_bytes(pattern_bytes(3 * BLOCK, 2))
    (root / "deep" / "er" / "tokenizer.json").write_bytes(pattern_bytes(1234, 3))
    (root / "empty").write_bytes(b"")
    found = Puller(root, tmp_path / "target", cache_dir)
    monkeypatch.setattr(run, "connect", lambda _address, _options: found.published)
    fetch = Lane.fetch

    def counted(lane, location, wanted, into, landed):
        found.fetched.append((location.url.rpartition("/")[2], wanted.span))
        return fetch(lane, location, wanted, into, landed)

    monkeypatch.setattr(race.Lane, "fetch", counted)
    return found
