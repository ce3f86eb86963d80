"""Clients of S3 by the standard AWS chain: how they are made, where they may go, what they try again."""

import gzip
import json
import os
import random
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import botocore.config
import botocore.credentials
import botocore.loaders
import botocore.session
from botocore import UNSIGNED

from lazyfs.core.backoff import Backoff
from lazyfs.core.s3_refusals import Passing
from lazyfs.sources.base import Access
from lazyfs.sources.s3_errors import SERVER_ERROR, refusal_of
from lazyfs.sources.s3_identity import AwsIdentity, CredentialChain
from lazyfs.transport.route import admit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_S, ANSWER_S, TRIES = 5, 20, 3
REFUSED = 300
PASSING_TRIES = 5
"""So often is asked what was refused for what passes, if botocore does not know that it does."""
_BACKOFF = Backoff(base_s=0.2, cap_s=3.0)
_ISSUERS = {
    "assume-role": "sts", "assume-role-with-web-identity": "sts", "sso": "sso", "login": "signin",
}  # fmt: skip
"""Whom botocore asks for credentials, by its name for how it has found them."""


class _Files(botocore.loaders.JSONFileLoader):
    """Reads models into plain dictionaries, which keep their order as well.

    botocore's own way takes 19 ms instead of 8 for what an S3 client needs.
    """

    def load_file(self, file_path: str) -> Any:
        """Return what is in a file, whose name is without its end; None when there is none."""
        for end, opened in ((".json", open), (".json.gz", gzip.open)):
            if Path(file_path + end).is_file():
                with opened(file_path + end, "rb") as file:
                    return json.loads(file.read())
        return None


class _Loader(botocore.loaders.Loader):
    """Knows all services by the names of their directories.

    botocore looks into each of the 430 to see what they hold: 0.1 s when cold. Here only the directory of a
    service that is loaded is looked into.
    """

    FILE_LOADER_CLASS: type[botocore.loaders.JSONFileLoader] = _Files

    @cached_property
    def _services(self) -> list[str]:
        return [one.name for path in self.search_paths if Path(path).is_dir() for one in os.scandir(path)]

    def list_available_services(self, type_name: str) -> list[str]:
        """Return the services there are."""
        del type_name
        return self._services


class S3Session:
    """Credentials, and clients that use them. `renew` has both found anew."""

    def __init__(self, access: Access) -> None:
        """Find out what is configured.

        Raises:
            BotoCoreError: when a file cannot be understood, or lacks the profile.

        """
        self._access = access
        self._loader: _Loader | None = None
        self._session = self._made()

    def _made(self) -> botocore.session.Session:
        session = botocore.session.get_session()
        if self._loader is None:  # one for all: what it has read, another user may not be able to read again
            data_path = session.get_config_variable("data_path")
            self._loader = _Loader(data_path.split(os.pathsep) if data_path else None)
        session.register_component("data_loader", self._loader)
        # For the clients that ask for credentials: botocore's own patience is ten minutes.
        retries: Any = {"mode": "standard", "total_max_attempts": TRIES}
        patience = botocore.config.Config(connect_timeout=CONNECT_S, read_timeout=ANSWER_S, retries=retries)
        session.set_default_client_config(patience)
        # Also where S3 redirects, and where credentials come from: who says what to mount may say that, too.
        # What a container or a machine is given at 169.254.* is asked for by no client.
        session.register("before-send", _admitted)
        if not self._access.anonymous:
            region = self._region(session)
            resolver = botocore.credentials.create_credential_resolver(session, region_name=region)
            session.register_component("credential_provider", CredentialChain(resolver))
        return session

    @property
    def identity(self) -> AwsIdentity | None:
        """The credentials; None when there are none, or none are wanted.

        Raises:
            LazyfsError: see `s3_identity.explained`.

        """
        return None if self._access.anonymous else cast("AwsIdentity | None", self._session.get_credentials())

    def renew(self) -> bool:
        """Look for credentials anew, as whoever gives them out may have others; tell whether there are.

        Raises:
            LazyfsError: see `s3_identity.explained`.

        """
        if self._access.anonymous:
            return False
        before, session = self.identity, self._made()
        found = cast("AwsIdentity | None", session.get_credentials())
        if found is None:
            return False
        # Asked for now: until there are some, what signs and what says how long that is good stay together.
        issued = found.get_frozen_credentials()
        if before is not None and issued == before.last:
            return False
        self._session = session
        return True

    def client(
        self, region: str | None = None, more: Mapping[str, Any] | None = None, *, once: bool = False
    ) -> "S3Client":
        """Return an S3 client, which asks `once` or tries again; `more` overrides how it sends requests."""
        session, access = self._session, self._access
        configured = session.get_scoped_config()
        style: Any = access.addressing_style or (configured.get("s3") or {}).get("addressing_style")
        if style is None:
            # For AWS "auto" signs for the global endpoint, which redirects, which breaks the signature.
            # Servers of one's own all know path style, few the other.
            style = "path" if access.endpoint_url or _endpoint(session) else "virtual"
        settings: dict[str, Any] = {
            "signature_version": UNSIGNED if access.anonymous else "s3v4",
            "s3": {"addressing_style": style},
        }
        if once:
            settings["retries"] = {"mode": "standard", "total_max_attempts": 1}
        config = botocore.config.Config(**settings | dict(more or {}))
        region = region or self._region(session)
        made = session.create_client(
            "s3", region_name=region, endpoint_url=access.endpoint_url, config=config
        )
        made.meta.events.register("before-parse.s3", _as_s3_writes)
        if not once:
            made.meta.events.register("needs-retry.s3", _again)
        self._read_models(region)
        return cast("S3Client", made)

    @staticmethod
    def _region(session: botocore.session.Session) -> str:
        found: str = session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"
        return found

    def _read_models(self, region: str) -> None:
        """Read what is needed to ask for credentials: as `--user`, this process may not be able to later."""
        issuer = None if self.identity is None else _ISSUERS.get(self.identity.method)
        if issuer is not None:
            unsigned = botocore.config.Config(signature_version=UNSIGNED)
            made: Any = self._session.create_client(cast("Any", issuer), region_name=region, config=unsigned)
            made.close()


def signed_for(headers: Mapping[str, Any]) -> str | None:
    """Return the region that a request was signed for, by its headers; None when it was not signed."""
    found = headers.get("Authorization", "")
    text = found.decode("latin-1") if isinstance(found, bytes) else str(found)
    scope = text.partition("Credential=")[2].partition(",")[0].split("/")
    return scope[-3] if len(scope) >= 5 else None  # noqa: PLR2004 - key/date/region/s3/aws4_request


def _admitted(**event: Any) -> None:
    """Let a request of a client through, if a source may be where it goes."""
    admit(event["request"].url)


def _as_s3_writes(response_dict: dict[str, Any], **_: Any) -> None:
    """Write a document as S3 itself does, for botocore reads no other.

    An error of a server may have a namespace: without this its code is lost. And a boolean of XML Schema may
    be `1`, which botocore takes for false: a listing would end in the middle.
    """
    body = response_dict["body"]
    if not isinstance(body, bytes):
        return
    if response_dict["status_code"] >= REFUSED:
        response_dict["body"] = re.sub(rb"<Error\s[^>]*>", b"<Error>", body, count=1)
    else:
        response_dict["body"] = re.sub(
            rb"<IsTruncated>\s*(?:1|true)\s*</IsTruncated>", b"<IsTruncated>true</IsTruncated>", body,
            count=1, flags=re.IGNORECASE,
        )  # fmt: skip


def _again(**event: Any) -> Any:
    """Return after how many seconds a request is tried again that was refused for what passes.

    What comes with 500 and above, botocore tries again by itself.
    """
    response, attempts = event["response"], event["attempts"]
    if response is None or response[0].status_code >= SERVER_ERROR or attempts >= PASSING_TRIES:
        return None
    if refusal_of(response[1]).passing in {None, Passing.EXPIRED}:
        return None
    return _BACKOFF.delay_s(attempts - 1, random.random())  # noqa: S311


def _endpoint(session: botocore.session.Session) -> str | None:
    """Return the endpoint of S3 that the environment or a file names, by whatever means botocore knows."""
    configured = session.get_scoped_config()
    services = session.full_config.get("services") or {}
    own = (services.get(configured.get("services")) or {}).get("s3") or {}
    variables = (os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    return next(filter(None, (*variables, own.get("endpoint_url"), configured.get("endpoint_url"))), None)
