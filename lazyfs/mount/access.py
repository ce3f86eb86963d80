"""Whose credentials a worker uses, when whoever started it says so: never those of the machine then."""

import logging
import os
from collections.abc import Mapping

from lazyfs.core.renewal import CURE, renewed

log = logging.getLogger(__name__)

_THEIRS = ("AWS_", "HF_", "HUGGING_FACE_", "HUGGINGFACE_", "LAZYFS_HTTP_", "NETRC")
_KEPT = {
    "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
    "HF_ENDPOINT",
}  # fmt: skip
"""These say where something is, not who asks."""
_NOBODY = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "BOTO_CONFIG": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "HF_TOKEN_PATH": os.devnull,
    "NETRC": os.devnull,
}
"""Where the client libraries would look for credentials else."""


def assume(environment: Mapping[str, str]) -> None:
    """Use what `environment` says, and no other credentials, from now on.

    To be called before a client library is imported.
    """
    _use({**_NOBODY, **_places(), **environment})


def renew(environment: Mapping[str, str]) -> None:
    """Use the credentials in `environment`, and no others; what else it says is ignored, and that is logged.

    Sources have to be connected anew.
    """
    found = renewed(_places(), environment)
    said = [name for name in found.ignored if name in environment]
    if said:
        log.warning("renewal_ignored what=%r cure=%r", ", ".join(said), CURE)
    _use(_NOBODY | found.environment)


def _places() -> dict[str, str]:
    """Return what the environment says of places."""
    return {name: os.environ[name] for name in _KEPT & os.environ.keys()}


def _use(environment: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(_THEIRS)]:
        del os.environ[name]
    os.environ.update(environment)
