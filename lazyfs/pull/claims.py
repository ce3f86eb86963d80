"""What is taken for complete, and right: a source that its publisher's `lazyfs.json` fits, or that has none.

A mount goes by the listing, and says what does not fit; who takes everything away for good must know.
"""

from lazyfs.config import SourceOptions
from lazyfs.core.manifest import Manifest, selected
from lazyfs.core.publication import require_met
from lazyfs.mount.snapshot import take
from lazyfs.sources import Source
from lazyfs.sources.base import Claimed


def take_whole(source: Source, address: str, options: SourceOptions) -> Manifest:
    """List a source and pin what it holds now, if that is what was published.

    Raises:
        BadPublication: when it is not, in what the options choose of it.
        LazyfsError: see `snapshot.take`.

    """
    manifest = take(source, address, options)
    if isinstance(source, Claimed):
        require_met(source.unmet(), lambda name: selected(name, options.include, options.exclude))
    return manifest
