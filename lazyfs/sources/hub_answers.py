"""What the Hub's refusals mean to a user: the cause in one line, and the cure."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lazyfs.core.ratelimit import wait_s
from lazyfs.errors import (
    AccessDenied,
    CredentialsInvalid,
    LazyfsError,
    SourceMissing,
    SourceThrottled,
    SourceUnavailable,
)
from lazyfs.sources.hub_address import HubAddress

_TIMED_OUT, _THROTTLED, _SERVER_ERROR = 408, 429, 500
_SAID_MAX = 200
LOG_IN = "set HF_TOKEN, or run `hf auth login`"


def not_hub(endpoint: str) -> SourceUnavailable:
    """Return what to say of a server that speaks HTTP, but not as the Hub does."""
    return SourceUnavailable(
        f"the answer of {endpoint} is not that of a Hugging Face Hub", "check HF_ENDPOINT"
    )


def missing_path(address: HubAddress, endpoint: str) -> SourceMissing:
    """Return what to say when there is nothing at the address's path, or nothing at all."""
    revision = address.revision or "main"
    what = f"there is no {address.path} in {address.what}" if address.path else f"{address.what} is empty"
    return SourceMissing(
        f"{what} ({revision})", f"{endpoint}{address.page}/tree/{revision} shows what there is"
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer without success. `known` says that a token was sent along.

    What it means is told by X-Error-Code and X-Error-Message, as `hf_raise_for_status` of huggingface_hub
    reads them, and by the status where those are silent.
    """

    status: int
    headers: Mapping[str, str]
    address: HubAddress
    endpoint: str
    known: bool

    @property
    def meaning(self) -> LazyfsError:
        """The error it is to a user."""
        if self._said in _BY_MESSAGE:
            return _BY_MESSAGE[self._said](self)
        code, status = self.headers.get("X-Error-Code", ""), self.status
        if status != _THROTTLED and code in _BY_CODE:
            return _BY_CODE[code](self)
        if status in _BY_STATUS:
            return _BY_STATUS[status](self)
        if status >= _SERVER_ERROR or status == _TIMED_OUT:
            return SourceUnavailable(f"{self.endpoint} failed ({status})", "try again later")
        return not_hub(self.endpoint)

    @property
    def _said(self) -> str:
        return " ".join(self.headers.get("X-Error-Message", "").split())[:_SAID_MAX]

    @property
    def _page(self) -> str:
        return f"{self.endpoint}{self.address.page}"

    def throttled(self) -> LazyfsError:
        """Return the error: it wants to be asked later."""
        cure = "try again later" if self.known else f"the Hub allows more to those it knows: {LOG_IN}"
        wait = wait_s(self.headers, time.time())
        return SourceThrottled(f"{self.endpoint} wants fewer requests (429)", cure, wait)

    def bad_token(self) -> LazyfsError:
        """Return the error: it does not know the token."""
        return CredentialsInvalid(
            f"{self.endpoint} does not know this token",
            f"set HF_TOKEN to one of {self.endpoint}/settings/tokens, or run `hf auth login`",
        )

    def disabled(self) -> LazyfsError:
        """Return the error: it has closed the repository."""
        return AccessDenied(f"{self.endpoint} has disabled {self.address.what}", f"see {self._page}")

    def forbidden(self) -> LazyfsError:
        """Return the error: it knows who asks, and denies it."""
        why = f" ({self._said})" if self._said else ""
        cure = "the token needs the right to read it"
        return AccessDenied(f"{self.endpoint} denies access to {self.address.what}{why}", cure)

    def gated(self) -> LazyfsError:
        """Return the error: there are conditions to accept."""
        what = f"{self.address.what} is gated"
        if not self.known:
            return AccessDenied(what, f"accept its conditions at {self._page}, then {LOG_IN}")
        return AccessDenied(
            f"{what}, and the owner of this token may not read it",
            f"accept its conditions at {self._page}, and wait if they are to be granted; "
            "a fine-grained token needs the right to read gated repositories",
        )

    def no_revision(self) -> LazyfsError:
        """Return the error: it has no such branch, tag or commit."""
        return SourceMissing(
            f"{self.address.what} has no revision {self.address.revision}",
            f"check it; {self._page}/tree/main shows the branches",
        )

    def no_path(self) -> LazyfsError:
        """Return the error: it has no such file."""
        return missing_path(self.address, self.endpoint)

    def no_repository(self) -> LazyfsError:
        """Return the error: it has none of that name, or hides it."""
        what = f"{self.endpoint} has no {self.address.what}"
        if self.known:
            return SourceMissing(
                f"{what}, or does not show it to the owner of this token",
                "check the name, and whose token HF_TOKEN is",
            )
        return SourceMissing(
            f"{what}, or does not show it without a token", f"check the name; if it is private, {LOG_IN}"
        )


_Meaning = Callable[[Refused], LazyfsError]
_BY_MESSAGE: dict[str, _Meaning] = {
    "Invalid credentials in Authorization header": Refused.bad_token,
    "Access to this resource is disabled.": Refused.disabled,
}
_BY_CODE: dict[str, _Meaning] = {
    "GatedRepo": Refused.gated,
    "RevisionNotFound": Refused.no_revision,
    "EntryNotFound": Refused.no_path,
    "RepoNotFound": Refused.no_repository,
}
_BY_STATUS: dict[int, _Meaning] = {
    401: Refused.no_repository,
    403: Refused.forbidden,
    _THROTTLED: Refused.throttled,
}
