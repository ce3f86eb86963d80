"""The token of the Hub, as huggingface_hub finds it (environment, file, OIDC), if it can be one."""

import os
import re

from huggingface_hub import constants, get_token

from lazyfs.errors import CredentialsInvalid

_TOKEN = re.compile(r"[!-~]+", re.ASCII)
"""What can stand in a header: RFC 6750, 2.1 allows less, and more is never in one."""
_OIDC = "HF_OIDC_RESOURCE"
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def find_token() -> str | None:
    """Return the token; None when there is none.

    Raises:
        CredentialsInvalid: when what is in its place cannot be one. It is not repeated: it may be secret.
        OSError: when the file cannot be read.

    """
    try:
        found = get_token()
    except UnicodeDecodeError:
        raise _no_token() from None
    except Exception as error:
        if not os.environ.get(_OIDC):
            raise
        raise _not_given(error) from None
    if found is not None and _TOKEN.fullmatch(found) is None:
        raise _no_token()
    return found


def _not_given(error: Exception) -> CredentialsInvalid:
    """Return what to say when none is given for an OIDC one. Its text may be secret; its name is not."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    why = f"the Hub answered {status}" if status else type(error).__name__
    return CredentialsInvalid(
        f"{_OIDC} is set, and no token is to be had for it ({why})",
        f"set HF_OIDC_ID_TOKEN to one of a provider that {_OIDC} trusts, or unset {_OIDC} to use HF_TOKEN",
    )


def _no_token() -> CredentialsInvalid:
    variable = next((name for name in _VARIABLES if os.environ.get(name, "").strip()), None)
    if variable is not None:
        return CredentialsInvalid(
            f"what {variable} holds is no token: it has characters that none has",
            f"set {variable} to one of the Hub's page of access tokens, or unset it",
        )
    return CredentialsInvalid(
        f"what {constants.HF_TOKEN_PATH} holds is no token: it has characters that none has",
        "run `hf auth login`, or write only the token into it (as text without a byte order mark)",
    )
