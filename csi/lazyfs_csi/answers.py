"""Errors as gRPC has them: the code by which the kubelet decides, and the message that people read."""

import logging
import time
from collections.abc import Callable
from typing import Any

import grpc

from lazyfs.errors import LazyfsError, Reported
from lazyfs_csi.attributes import said
from lazyfs_csi.redaction import shown

log = logging.getLogger(__name__)

CODES = {
    "usage_error": grpc.StatusCode.INVALID_ARGUMENT,
    "source_missing": grpc.StatusCode.NOT_FOUND,
    "location_refused": grpc.StatusCode.PERMISSION_DENIED,
    "access_denied": grpc.StatusCode.PERMISSION_DENIED,
    "location_lapsed": grpc.StatusCode.PERMISSION_DENIED,
    "clock_skewed": grpc.StatusCode.PERMISSION_DENIED,
    "credentials_invalid": grpc.StatusCode.UNAUTHENTICATED,
    "credentials_expired": grpc.StatusCode.UNAUTHENTICATED,
    "source_unavailable": grpc.StatusCode.UNAVAILABLE,
    "source_unreachable": grpc.StatusCode.UNAVAILABLE,
    "source_throttled": grpc.StatusCode.UNAVAILABLE,
    "bad_response": grpc.StatusCode.UNAVAILABLE,
    "unfinished_publication": grpc.StatusCode.UNAVAILABLE,
    "bad_publication": grpc.StatusCode.FAILED_PRECONDITION,
    "bad_index": grpc.StatusCode.FAILED_PRECONDITION,
    "page_too_long": grpc.StatusCode.FAILED_PRECONDITION,
    "source_untrusted": grpc.StatusCode.FAILED_PRECONDITION,
    "cache_full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "cache_unusable": grpc.StatusCode.FAILED_PRECONDITION,
    "memory_too_small": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "fuse_unavailable": grpc.StatusCode.FAILED_PRECONDITION,
}
"""By the kind of an error (`LazyfsError.kind`); any other is INTERNAL."""
QUIET = {"NodeGetCapabilities", "NodeGetVolumeStats", "Probe", "GetPluginInfo", "GetPluginCapabilities"}
"""Asked again and again: only of use when something is wrong."""
MESSAGE_MAX = 2000


class Refused(Exception):
    """A call that is answered with a code and a message."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> Refused:
    """Return the refusal of a request that lacks something, or asks for what there is not."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def refused(error: LazyfsError) -> Refused:
    """Return an error as a refusal."""
    kind = error.what if isinstance(error, Reported) else error.kind()
    return Refused(CODES.get(kind, grpc.StatusCode.INTERNAL), said(error))


class Answers(grpc.ServerInterceptor):
    """Has every call logged, without secrets, and every error answered with its code."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of a call; one that nobody handles stays so."""
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        name = details.method.rpartition("/")[2]

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            return _answered(name, handler.unary_unary, request, context)

        return grpc.unary_unary_rpc_method_handler(
            handle, handler.request_deserializer, handler.response_serializer
        )


def _answered(
    name: str, handle: Callable[[Any, Any], Any], request: Any, context: grpc.ServicerContext
) -> Any:
    began_s = time.monotonic()
    try:
        answer = handle(request, context)
    except Refused as error:
        refusal = error
    except LazyfsError as error:
        refusal = refused(error)
    except Exception as error:
        log.exception("call_broken call=%s request=%r", name, shown(request))
        refusal = Refused(grpc.StatusCode.INTERNAL, f"{type(error).__name__}; see the log of the driver")
    else:
        level = logging.DEBUG if name in QUIET else logging.INFO
        log.log(
            level, "call call=%s request=%r seconds=%.3f", name, shown(request), time.monotonic() - began_s
        )
        return answer
    log.warning(
        "call_refused call=%s request=%r code=%s why=%r seconds=%.3f",
        name, shown(request), refusal.code.name, refusal.message, time.monotonic() - began_s,
    )  # fmt: skip
    return context.abort(refusal.code, refusal.message[:MESSAGE_MAX])
