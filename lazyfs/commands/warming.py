"""`lazyfs warm`."""

from lazyfs.commands.pulling import showing
from lazyfs.config import WarmOptions
from lazyfs.pull.fill import Filled, fill
from lazyfs.telemetry.status import bytes_text, duration_text


def warm(source: str, options: WarmOptions) -> str:
    """Fill the node's cache, and return what to say at the end.

    Raises:
        LazyfsError: when the cache has not got everything.

    """
    with showing(options, "what has come is kept; the same command goes on from there") as show:
        return _line(source, fill(source, options, show))


def _line(source: str, filled: Filled) -> str:
    whole = "all" if filled.stored_bytes == filled.size_bytes else "what a mount would load"
    head = f"{whole} of {source} is in the cache, {bytes_text(filled.stored_bytes)} in {filled.files} files"
    if not filled.network_bytes:
        return f"{head}; it was there already."
    came, rate = bytes_text(filled.network_bytes), bytes_text(filled.network_bytes / filled.seconds)
    return f"{head}, after {duration_text(filled.seconds)}: {came} from the network, {rate}/s."
