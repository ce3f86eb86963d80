"""Pinning a snapshot: what sources hold now, under the names a mount can show."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from lazyfs.config import SourceOptions
from lazyfs.core.blob import BlobRef
from lazyfs.core.layout import Asked, Layout, Listed, arrange, asked, part_of, refuse_several
from lazyfs.core.location import Location
from lazyfs.core.manifest import Manifest, Part, build, from_json
from lazyfs.core.origin import is_older
from lazyfs.errors import LazyfsError, SourceMissing
from lazyfs.sources import Access, Source, open_source
from lazyfs.sources.base import Renaming, Versioned

log = logging.getLogger(__name__)

THREADS = 8
"""So many sources are asked at once."""

R = TypeVar("R")


def connect(address: str, options: SourceOptions) -> Source:
    """Open the source at `address`.

    Raises:
        LazyfsError: when the address or the access to it is not right.

    """
    style, allowed = options.addressing_style, options.allow_source
    return open_source(address, Access(options.endpoint_url, options.anonymous, style, allowed))


def take(source: Source, address: str, options: SourceOptions) -> Manifest:
    """List a source and pin what it holds now.

    Raises:
        SourceMissing: when nothing of it can be mounted.
        LazyfsError: when it cannot be listed.

    """
    manifest = build(address, source.list(), options.include, options.exclude)
    for refused in manifest.refused:
        log.warning("name_refused name=%r why=%r", refused.name, refused.reason)
    if not manifest.blobs:
        raise SourceMissing(
            f"nothing at {address} can be mounted", "check --include and --exclude, and the warnings above"
        )
    return manifest


class Later:
    """A source that is connected when it is first needed: a worker that takes over serves before that."""

    def __init__(self, connect: Callable[[], Source]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._source: Source | None = None

    def connect_now(self) -> Source:
        """Connect it, if that has not been done.

        Raises:
            LazyfsError: see `connect`.

        """
        with self._lock:
            if self._source is None:
                self._source = self._connect()
            return self._source

    def forget(self) -> None:
        """Have it connected anew when it is needed next; requests on their way go on, and close it then."""
        with self._lock:
            self._source = None

    def close(self) -> None:
        """See `Source.close`."""
        if self._source is not None:
            self._source.close()


class Sources:
    """The sources of one mount, in the order they were given."""

    def __init__(self, texts: Sequence[str], options: SourceOptions, layout: Layout) -> None:
        """`texts` are the sources as they were typed.

        Raises:
            UsageError: when they do not go with the layout.

        """
        refuse_several(texts, layout)
        self._options = options
        self._layout = layout
        self._asked = [Asked(text, text) if layout is Layout.FLAT else asked(text) for text in texts]
        self._later = {one.text: Later(partial(connect, one.address, options)) for one in self._asked}
        self._parts: tuple[Part, ...] = ()

    def connect_now(self) -> None:
        """Connect those that are not.

        Raises:
            LazyfsError: see `connect`.

        """
        self._each(lambda one: self._later[one.text].connect_now())

    def take(self) -> Manifest:
        """List them all, and pin what they hold now.

        Raises:
            LazyfsError: see `snapshot.take`; of several sources it says which.

        """
        if self._layout is Layout.FLAT:
            (one,) = self._asked
            return take(self._later[one.text].connect_now(), one.address, self._options)
        manifest = arrange(self._each(self._list))
        self.locate_in(manifest)
        return manifest

    def _list(self, one: Asked) -> Listed:
        source = self._later[one.text].connect_now()
        manifest = take(source, one.address, self._options)
        own = source.repository() if isinstance(source, Versioned) else None
        repository = one.repository(own, manifest.snapshot_id)
        return Listed(repository, replace(manifest, source=one.text))

    def renamed(self, manifest: Manifest) -> Manifest:
        """Return a manifest that an older version pinned with the origins its blobs have now.

        Connects the sources that are to say so.

        Raises:
            OriginMismatch: when it was pinned at another server than is asked now.
            LazyfsError: see `connect`; when there are no credentials.

        """
        blobs = tuple(self._renamed(blob) if is_older(blob.origin) else blob for blob in manifest.blobs)
        return replace(manifest, blobs=blobs)

    def _renamed(self, blob: BlobRef) -> BlobRef:
        source, called = self._at(blob)
        connected = source.connect_now()
        assert isinstance(connected, Renaming)
        return replace(blob, origin=connected.renamed(called).origin)

    def _at(self, blob: BlobRef) -> tuple[Later, BlobRef]:
        """Return the source a blob came from, and the blob by the name it has there."""
        if not self._parts:
            return self._later[self._asked[0].text], blob
        part = part_of(blob.name, self._parts)
        return self._later[part.source], part.called(blob)

    def locate_in(self, manifest: Manifest) -> None:
        """Have `locate` find the blobs of this manifest."""
        self._parts = manifest.parts

    def locate(self, blob: BlobRef) -> Location:
        """Ask the source the blob came from; see `Source.locate`."""
        source, called = self._at(blob)
        return source.connect_now().locate(called)

    def reconnect(self) -> None:
        """Ask with other credentials from now on: those the environment says."""
        for source in self._later.values():
            source.forget()

    def close(self) -> None:
        """Let go of connections."""
        for source in self._later.values():
            source.close()

    def _each(self, work: Callable[[Asked], R]) -> list[R]:
        """Do it for each, at the same time if there are several."""
        if len(self._asked) == 1:
            return [work(self._asked[0])]
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - most mounts have one source

        def named(one: Asked) -> R:
            try:
                return work(one)
            except LazyfsError as error:
                if one.text not in error.cause:
                    error.cause = f"{one.text}: {error.cause}"
                raise

        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(named, self._asked))


def _as_named_now(sources: Sources, manifest: Manifest) -> Manifest:
    """Return a manifest with the origins of this version; as it is, if its sources do not say them now."""
    try:
        return sources.renamed(manifest)
    except LazyfsError as error:
        log.warning("origins_unknown error=%r consequence=%r", str(error), "nothing is kept in the cache")
        return manifest


def pinned(sources: Sources, kept: int, *, first: bool) -> Manifest:
    """Return the snapshot: taken now and written to the file `kept`, or as the first one did.

    Raises:
        LazyfsError: see `Sources.take`; only the first time.

    """
    if not first:
        manifest = from_json(os.pread(kept, os.fstat(kept).st_size, 0))
        sources.locate_in(manifest)
        return _as_named_now(sources, manifest)
    manifest = sources.take()
    content = memoryview(manifest.to_json().encode())
    os.ftruncate(kept, 0)
    written = 0
    while written < len(content):
        written += os.pwrite(kept, content[written:], written)
    return manifest
