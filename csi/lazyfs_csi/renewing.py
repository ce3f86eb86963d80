"""A changed secret: its credentials are taken, and what else it says is ignored, and said.

Both processes see to it, for the other one may be older and hand over all that a secret says.
"""

import logging
from collections.abc import Mapping

from lazyfs.core.renewal import CURE, renewed

log = logging.getLogger(__name__)


def with_credentials(source: str, before: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return what the workers of a mount are told from now on: `before`, with the credentials of `wanted`."""
    found = renewed(before, wanted)
    if found.ignored:
        log.warning("renewal_ignored source=%r what=%r cure=%r", source, ", ".join(found.ignored), CURE)
    return found.environment
