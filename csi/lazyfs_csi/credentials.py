"""Secrets: which of them a worker is told, and whose they are. Pure.

Who mounts with credentials shares the mount with nobody but those of the same namespace who show the same. So
the identity of a volume is a hash of its secrets with their namespace, and with a salt of the node's: what is
derived from it is in the list of mounts, for all to see.
"""

import hashlib
import json
from collections.abc import Mapping

from lazyfs.errors import UsageError
from lazyfs_csi.attributes import KUBERNETES, Volume, refuse_unfit, without_reserved

NAMES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL", "HF_TOKEN", "HF_ENDPOINT", "LAZYFS_HTTP_TOKEN", "LAZYFS_HTTP_USER",
    "LAZYFS_HTTP_PASSWORD",
)  # fmt: skip
"""What a secret can hold: as in KServe's secrets, and what the HTTP source takes."""
ALIASES = {
    "key_id": "AWS_ACCESS_KEY_ID",
    "access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "awsAccessKeyID": "AWS_ACCESS_KEY_ID",
    "awsSecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "token": "HF_TOKEN",
}
"""What they are called for Mountpoint's driver, KServe and hf-csi-driver."""


def environment_of(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker is told of secrets; keys nobody here knows may be there for others.

    Raises:
        UsageError: when there are some, and none that is known, or what is known cannot be used.

    """
    # The kubelet puts tokens of service accounts here, too (CSIDriver, serviceAccountTokenInSecrets).
    secrets = without_reserved(secrets)
    known = {ALIASES.get(name, name): text.strip() for name, text in secrets.items() if text.strip()}
    found = {name: known[name] for name in NAMES if name in known}
    refuse_unfit("the secret's", found)
    for name, text in found.items():
        if len(text.splitlines()) > 1:
            raise UsageError(f"the secret's {name} has more than one line", "leave one")
    if secrets and not found:
        raise UsageError(
            f"the secret has none of the keys that are known, but {', '.join(sorted(secrets))}",
            f"the keys are {', '.join(NAMES)}",
        )
    return found


def identity_of(environment: Mapping[str, str], context: Mapping[str, str], salt: bytes) -> str:
    """Return whose credentials these are; empty for those of nobody, which all can share."""
    if not environment:
        return ""
    namespace = context.get(f"{KUBERNETES}pod.namespace", "")
    return _digest([namespace, sorted(environment.items())], salt)


def key_of(volume: Volume, identity: str, salt: bytes) -> str:
    """Return what is the same for all volumes that share a mount: 32 hexadecimal digits."""
    wanted = [list(volume.sources), sorted(volume.options.items()), sorted(volume.environment.items())]
    return _digest([wanted, identity], salt)


def _digest(content: object, salt: bytes) -> str:
    return hashlib.sha256(salt + json.dumps(content).encode()).hexdigest()[:32]
