"""One bucket, asked and signed for: in its region, with credentials that are found anew when refused."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, InvalidRegionError

from lazyfs.core.s3_refusals import Passing, S3Refusal
from lazyfs.errors import LazyfsError
from lazyfs.sources.base import Access
from lazyfs.sources.s3_errors import BOTOCORE_RAISES, refusal_of, translate, unreadable
from lazyfs.sources.s3_place import older_place, place_of
from lazyfs.sources.s3_session import S3Session, signed_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BODILESS = {"301", "400", "403"}
"""All that there is of a refusal when HEAD was asked."""
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
"""What botocore lets through when an answer has no proper numbers and times, or lacks what it reads."""
_RENEWABLE = {"InvalidAccessKeyId", "InvalidToken", "InvalidTokenId", "SignatureDoesNotMatch"}
"""Besides those that have expired: what was replaced in the file it had been read from."""


def _outdated(refusal: S3Refusal) -> bool:
    """Tell whether other credentials would do."""
    return refusal.passing is Passing.EXPIRED or refusal.code in _RENEWABLE


class S3Bucket:
    """Asks by botocore, and signs for others to ask. Safe to call from several threads at once."""

    def __init__(self, name: str, access: Access) -> None:
        """Find credentials, and make a client.

        Raises:
            LazyfsError: when that is not possible.

        """
        self.name = name
        self._lock = threading.Lock()
        self._left: list[S3Client] = []
        """Clients that were replaced; requests may still be on their way."""
        self._sending = threading.local()
        """For which region the last request of a thread was signed."""
        with self.translated():
            self._session = S3Session(access)
            self._client = self._made()
        self._prober: S3Client | None = None
        """The client that asks why others were refused, once there was need of it."""

    def _made(self, region: str | None = None, *, once: bool = False) -> "S3Client":
        made = self._session.client(region, once=once)
        made.meta.events.register("before-send.s3", self._sent)
        return made

    def _sent(self, request: Any, **_: Any) -> None:
        """Note for which region a request is signed: botocore follows a bucket to its own by itself."""
        self._sending.region = signed_for(request.headers)

    @property
    def place(self) -> str:
        """What begins the origins of its objects: where they are really asked for.

        Raises:
            LazyfsError: when there are no credentials to ask with.

        """
        with self.translated():
            return place_of(self._client, self.name)

    @property
    def older_place(self) -> str:
        """What began them in the manifests of earlier versions."""
        return older_place(self._client, self.name)

    @property
    def region(self) -> str:
        """Where the bucket is, once it was asked."""
        return self._client.meta.region_name

    def client(self, more: Mapping[str, Any]) -> "S3Client":
        """Return another client with the same credentials and region; `more` overrides how it sends."""
        with self.translated():
            return self._session.client(self.region, more)

    def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to an operation on the bucket; once more with other credentials, if there are.

        Raises:
            LazyfsError: when it is refused, or there is no proper answer.

        """
        with self.translated():
            client = self._client
            try:
                return self._answer(client, operation, parameters)
            except ClientError as error:
                refusal = refusal_of(error.response)
                if operation == "head_object" and refusal.code in _BODILESS:
                    self.probe(**parameters)
                elif not _outdated(refusal) or not self._renewed(client):
                    raise
            return self._answer(self._client, operation, parameters)

    def _answer(self, client: "S3Client", operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self.name, **parameters)
        except BotoCoreError:
            raise
        except _UNREADABLE as error:
            raise unreadable(error) from None
        said: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.move_to(self._sending.region or said.get("x-amz-bucket-region"))
        return answer

    def move_to(self, region: str | None) -> None:
        """Sign for the bucket's own region: listing was led there, a presigned GET would not be."""
        with self._lock:
            if region and region != self.region:
                with suppress(InvalidRegionError):  # a server's own idea of a name
                    self._replace(region)

    def _renewed(self, refused: "S3Client") -> bool:
        """Find credentials anew, unless another thread has done so since `refused` was used."""
        with self._lock:
            if self._client is not refused:
                return True
            found = self._session.renew()
            if found:
                self._replace(self.region)
            return found

    def _replace(self, region: str) -> None:
        made = self._made(region)
        self._left += [self._client] if self._prober is None else [self._client, self._prober]
        self._client, self._prober = made, None

    def probe(self, **pin: Any) -> None:
        """Ask once for a byte of an object, to learn why others were refused, and mend what can be mended.

        Raises:
            LazyfsError: what may pass and has not yet; whatever is final, shows when it is read.

        """
        try:
            with self.translated():
                self._probe(pin)
        except LazyfsError as error:
            if error.retryable:
                raise

    def _probe(self, pin: Mapping[str, Any]) -> None:
        client = self._client
        with self._lock:
            if self._prober is None:
                self._prober = self._made(self.region, once=True)
            prober = self._prober
        try:
            answer = self._answer(prober, "get_object", {"Range": "bytes=0-0", **pin})
        except ClientError as error:
            if not _outdated(refusal_of(error.response)) or not self._renewed(client):
                raise
        else:
            answer["Body"].close()

    def presigned(self, seconds: int, **pin: Any) -> tuple[str, int]:
        """Return a URL by which an object can be read, and for how many seconds, at most so many.

        Raises:
            LazyfsError: when there are no credentials.

        """
        with self.translated():
            identity = self._session.identity
            url = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.name, **pin}, ExpiresIn=seconds
            )
            return url, seconds if identity is None else identity.life_s(seconds)

    def close(self) -> None:
        """Close all connections."""
        for client in filter(None, (*self._left, self._client, self._prober)):
            client.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn botocore's exceptions into ours, once."""
        try:
            yield
        except LazyfsError:
            raise
        except BOTOCORE_RAISES as error:
            raise translate(error, self.name) from None
