"""What a renewed secret changes of a live mount: who asks, and never whom. Pure.

A mount is pinned to what its source held when it began, and its blocks are kept under the name of the server
they were listed at (`core/origin.py`). A secret also says where that is, and may be changed by whoever owns
the volume; so of a changed one only the credentials count, and whatever else it says takes a new mount.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CREDENTIALS = frozenset({
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE", "HF_TOKEN", "LAZYFS_HTTP_TOKEN",
    "LAZYFS_HTTP_USER", "LAZYFS_HTTP_PASSWORD",
})  # fmt: skip
"""Variables that say who asks. What is not among them may say whom, and stays."""
CURE = "a mount keeps its server; a new mount uses what is set now"


@dataclass(frozen=True, slots=True)
class Renewed:
    """An environment with other credentials, and the names of what else was wanted and was not taken."""

    environment: dict[str, str]
    ignored: tuple[str, ...]


def renewed(before: Mapping[str, str], wanted: Mapping[str, str]) -> Renewed:
    """Return `before` with the credentials of `wanted`, and with no others."""
    kept = {name: text for name, text in before.items() if name not in CREDENTIALS}
    fresh = {name: text for name, text in wanted.items() if name in CREDENTIALS}
    elsewhere = {name: text for name, text in wanted.items() if name not in CREDENTIALS}
    ignored = sorted(name for name in kept | elsewhere if kept.get(name) != elsewhere.get(name))
    return Renewed(kept | fresh, tuple(ignored))
