"""Whose credentials a worker uses, when whoever started it says so: never those of the machine then."""

import os
from collections.abc import Mapping

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
_places: dict[str, str] = {}


def assume(environment: Mapping[str, str]) -> None:
    """Use the credentials in `environment`, and no others, from now on.

    To be called before a client library is imported, and again when they change: sources then have to be
    connected anew.
    """
    if not _places:
        _places.update(_NOBODY | {name: os.environ[name] for name in _KEPT & os.environ.keys()})
    for name in [name for name in os.environ if name.startswith(_THEIRS)]:
        del os.environ[name]
    os.environ.update({**_places, **environment})
