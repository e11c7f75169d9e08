"""The errors a caller can get, and their status, type and code on the wire.

    LikeDoError
    ├── InvalidRequest ............ 400 invalid_parameter
    │   ├── InvalidJSON ........... 400 invalid_json
    │   ├── MissingParameter ...... 400 missing_required_parameter
    │   ├── UnsupportedParameter .. 400 unsupported_parameter
    │   ├── ContextLengthExceeded . 400 context_length_exceeded
    │   └── ContentPolicyViolation  400 content_policy_violation
    ├── InvalidKey ................ 401 invalid_api_key
    ├── InsufficientCredits ....... 402 insufficient_credits
    ├── KeyLimitReached ........... 402 key_limit_reached
    ├── CreditsHeld ............... 402 credits_held
    ├── ModelNotAllowed ........... 403 model_not_allowed
    ├── AddressNotAllowed ......... 403 address_not_allowed
    ├── NotFound .................. 404 not_found
    │   └── ModelNotFound ......... 404 model_not_found
    ├── MethodNotAllowed .......... 405 method_not_allowed
    ├── RequestTimeout ............ 408 request_timeout
    ├── JobAlreadyFinished ........ 409 job_already_finished
    ├── JobCancelled .............. 409 job_cancelled
    ├── StreamLogGone ............. 410 stream_log_gone
    ├── RequestTooLarge ........... 413 request_too_large
    ├── StorageQuotaExceeded ...... 413 storage_quota_exceeded
    ├── UnsupportedMediaType ...... 415 unsupported_media_type
    ├── IdempotencyKeyReused ...... 422 idempotency_key_reused
    ├── RateLimitExceeded ......... 429 rate_limit_exceeded
    ├── InternalError ............. 500 internal_error
    ├── ProviderFailed ............ 502 provider_error
    │   ├── ProviderRefusedUs ..... 502 provider_auth_error
    │   ├── ModelGone ............. 502 provider_error (the route is skipped)
    │   └── ProviderBusy .......... 503 overloaded (the provider's own 429)
    ├── ProviderTimeout ........... 504 provider_timeout
    └── Unavailable ............... 503 unavailable
        ├── JobInProgress ......... 503 job_in_progress
        ├── Overloaded ............ 503 overloaded (our own queue)
        └── NoProvider ............ 503 no_provider

Statuses, types and codes are those of the table "Errors" in the API's documentation. `retryable`
becomes the header `x-should-retry`. Messages contain no keys and no unchecked upstream text.
"""

from typing import Any, ClassVar


class LikeDoError(Exception):
    """An error for the caller: the message says what is wrong and what to do about it."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    #: Seconds until a retry makes sense, if the class defines them.
    default_retry_after: ClassVar[int | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        #: The HTTP status of a provider's answer, and the seconds that it asked to wait.
        self.upstream_status: int | None = None
        self.stated_delay: float | None = None
        #: Whether the provider certainly did not start, so that a retry cannot be paid for twice.
        self.nothing_ran = False

    def as_json(self) -> dict[str, Any]:
        """Return the error as callers see it: `{"message", "type", "param", "code"}`."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }

    def as_record(self) -> dict[str, Any]:
        """Return the error as stored with a job, to be restored by `from_record`."""
        return {
            "class": type(self).__name__,
            "message": self.message,
            "param": self.param,
            "retry_after": self.retry_after,
        }


class InvalidRequest(LikeDoError):
    status, type, code = 400, "invalid_request_error", "invalid_parameter"


class InvalidJSON(InvalidRequest):
    code = "invalid_json"


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ContentPolicyViolation(InvalidRequest):
    code = "content_policy_violation"


class InvalidKey(LikeDoError):
    """The message begins "Incorrect API key provided", which some clients look for."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class InsufficientCredits(LikeDoError):
    status, type, code = 402, "insufficient_quota", "insufficient_credits"


class KeyLimitReached(LikeDoError):
    """The key's owner has limited what its calls may cost."""

    status, type, code = 402, "insufficient_quota", "key_limit_reached"


class CreditsHeld(LikeDoError):
    """The balance would suffice, but running calls hold too much of it."""

    status, type, code = 402, "insufficient_quota", "credits_held"
    retryable = True
    default_retry_after = 2


class ModelNotAllowed(LikeDoError):
    status, type, code = 403, "permission_error", "model_not_allowed"


class AddressNotAllowed(LikeDoError):
    status, type, code = 403, "permission_error", "address_not_allowed"


class NotFound(LikeDoError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(LikeDoError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeout(LikeDoError):
    """The body arrived too slowly or took too long. The connection is closed."""

    status, type, code = 408, "invalid_request_error", "request_timeout"
    retryable = True


class JobAlreadyFinished(LikeDoError):
    status, type, code = 409, "invalid_request_error", "job_already_finished"


class JobCancelled(LikeDoError):
    status, type, code = 409, "invalid_request_error", "job_cancelled"


class StreamLogGone(LikeDoError):
    status, type, code = 410, "invalid_request_error", "stream_log_gone"


class RequestTooLarge(LikeDoError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class StorageQuotaExceeded(LikeDoError):
    status, type, code = 413, "invalid_request_error", "storage_quota_exceeded"


class UnsupportedMediaType(LikeDoError):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class IdempotencyKeyReused(LikeDoError):
    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"


class RateLimitExceeded(LikeDoError):
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
    retryable = True


class InternalError(LikeDoError):
    """A bug of ours. The details are logged; the caller gets none."""


class ProviderFailed(LikeDoError):
    """The provider failed, refused or broke off. Nothing is charged."""

    status, type, code = 502, "upstream_error", "provider_error"


class ProviderRefusedUs(ProviderFailed):
    """The provider refused our key, funds or region: never the caller's 401 or 402."""

    code = "provider_auth_error"


class ModelGone(ProviderFailed):
    """The provider no longer has the route's model: the next route is tried, and it is logged."""


class ProviderBusy(ProviderFailed):
    """The provider's own rate limit, not to be confused with the caller's."""

    status, type, code = 503, "server_error", "overloaded"
    retryable = True
    default_retry_after = 5


class ProviderTimeout(LikeDoError):
    status, type, code = 504, "timeout_error", "provider_timeout"
    retryable = True


class Unavailable(LikeDoError):
    """Something that this service depends on does not answer now."""

    status, type, code = 503, "server_error", "unavailable"
    retryable = True
    default_retry_after = 2


class JobInProgress(Unavailable):
    code = "job_in_progress"
    default_retry_after = 1


class Overloaded(Unavailable):
    code = "overloaded"
    default_retry_after = 5


class NoProvider(Unavailable):
    code = "no_provider"
    default_retry_after = 30


def _tree(root: type[LikeDoError]) -> dict[str, type[LikeDoError]]:
    classes = {root.__name__: root}
    for child in root.__subclasses__():
        classes |= _tree(child)
    return classes


_BY_NAME = _tree(LikeDoError)


def from_record(record: dict[str, Any]) -> LikeDoError:
    """Return the error that `as_record` described."""
    kind = _BY_NAME.get(record["class"], InternalError)
    return kind(record["message"], param=record["param"], retry_after=record["retry_after"])
