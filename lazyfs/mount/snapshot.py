"""Pinning a snapshot: what a source holds now, under the names a mount can show."""

import logging

from lazyfs.config import SourceOptions
from lazyfs.core.manifest import Manifest, build
from lazyfs.errors import SourceMissing
from lazyfs.sources import Access, Source, open_source

log = logging.getLogger(__name__)


def connect(address: str, options: SourceOptions) -> Source:
    """Open the source at `address`.

    Raises:
        LazyfsError: when the address or the access to it is not right.

    """
    return open_source(address, Access(options.endpoint_url, options.anonymous, options.addressing_style))


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
