"""Names and locations: what there is and where its bytes are. A source never moves the bytes of a file.

`open_source` is the registry: a new source is one module and one line here (docs/adding-a-source.md).
"""

from importlib import import_module

from lazyfs.core.allowance import allowance
from lazyfs.errors import UsageError
from lazyfs.sources.base import Access, Source
from lazyfs.transport import gate

# By name, so that only the client library of the source in use is imported: they take longer than a mount.
_MODULES = {
    "s3": "lazyfs.sources.s3",
    "hf": "lazyfs.sources.hub",
    "file": "lazyfs.sources.local",
    "http": "lazyfs.sources.http",
    "https": "lazyfs.sources.http",
}


def open_source(address: str, access: Access) -> Source:
    """Return the source that `address`, like `s3://bucket/prefix`, stands for.

    Raises:
        UsageError: for a scheme nobody serves, or an address its source cannot read.
        AccessDenied: when it is where no source may be.

    """
    scheme, separator, place = address.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _MODULES:
        known = ", ".join(f"{name}://" for name in _MODULES)
        what = f"unknown scheme {scheme}://" if separator else f"{address!r} is not a source"
        raise UsageError(what, f"a source begins with one of {known}")
    gate.allow(allowance(access.allowed))
    source: Source = import_module(_MODULES[scheme]).connect(f"{scheme}://{place}", access)
    return source


__all__ = ["Access", "Source", "open_source"]
