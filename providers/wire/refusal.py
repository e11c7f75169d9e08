"""Which error of ours a provider's refusal is."""

import re
from collections.abc import Mapping
from typing import Any

from models.errors import (
    ContentPolicyViolation,
    ContextLengthExceeded,
    InvalidRequest,
    LikeDoError,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
    UnsupportedParameter,
)
from net.answer import Response
from providers.wire import refusal_body
from providers.wire.refusal_body import ProviderError


def refusal(provider: str, response: Response) -> LikeDoError:
    """Return the error that a `response` with an error status stands for."""
    return as_ours(provider, refusal_body.read(response.status, response.headers, response.content))


def refusal_within(provider: str, error: Any, headers: Mapping[str, str]) -> LikeDoError:
    """Return the error that the `error` object inside an answer of status 200 stands for."""
    said = refusal_body.parsed(0, headers, {"error": error})
    return as_ours(provider, said)


def as_ours(provider: str, said: ProviderError) -> LikeDoError:
    """Return the most precise error of ours for what `provider` said."""
    error = _most_precise(provider, said)
    error.upstream_status, error.stated_delay = said.status, said.retry_after
    error.nothing_ran = 400 <= said.status < 500 and said.status not in _UNCLEAR
    return error


def _most_precise(provider: str, said: ProviderError) -> LikeDoError:
    if _any(said, _OUT_OF_FUNDS | _WRONG_KEY):
        return _refused_us(provider, said)
    if "model_not_found" in said.words or _NO_MODEL.search(said.message):
        return _gone(provider)
    match said.status:
        case 400 | 413 | 422:
            return _invalid(provider, said)
        case 403 if said.moderated or _any(said, _MODERATED):
            return _blocked(provider, said)
        case 401 | 402 | 403:
            return _refused_us(provider, said)
        case 404 if _NO_SUCH_ABILITY.search(said.message):
            return _unsupported(provider, said)
        case 404 | 410:
            return _gone(provider)
        case 429 if _TOO_LARGE.search(said.message):
            return ContextLengthExceeded(_told(provider, said), param="messages")
        case 429:
            return ProviderBusy(f"{provider} is busy.", retry_after=said.retry_after)
        case 504:
            return ProviderTimeout(f"{provider} did not answer in time (HTTP 504).")
        case status:
            return ProviderFailed(f"{provider} failed (HTTP {status}).")


def _invalid(provider: str, said: ProviderError) -> LikeDoError:
    if _any(said, {"context_length_exceeded"}) or _TOO_LONG.search(said.message):
        return ContextLengthExceeded(_told(provider, said), param="messages")
    if _any(said, _UNSUPPORTED) or _UNKNOWN_ARGUMENT.search(said.message):
        return _unsupported(provider, said)
    if said.moderated or _any(said, _MODERATED) or _BLOCKED.search(said.message):
        return _blocked(provider, said)
    return InvalidRequest(_told(provider, said), param=said.param)


def _unsupported(provider: str, said: ProviderError) -> LikeDoError:
    unknown = _UNKNOWN_ARGUMENT.search(said.message)
    param = said.param or (unknown.group(1) if unknown else None)
    return UnsupportedParameter(_told(provider, said), param=param)


def _blocked(provider: str, said: ProviderError) -> LikeDoError:
    return ContentPolicyViolation(_told(provider, said), param=said.param)


def _refused_us(provider: str, said: ProviderError) -> LikeDoError:
    return ProviderRefusedUs(
        f"{provider} refuses this service's key, funds or region (HTTP {said.status or 200}). "
        "Its operator has to see to that."
    )


def _gone(provider: str) -> LikeDoError:
    return ModelGone(f"{provider} does not have this model, or no longer.")


def _told(provider: str, said: ProviderError) -> str:
    return said.message or f"{provider} takes this request for invalid and does not say why."


def _any(said: ProviderError, words: set[str]) -> bool:
    return not words.isdisjoint(said.words)


#: Of the refusals, those that may come after the work was begun: a time-out, a client that left.
_UNCLEAR = {408, 499}

_OUT_OF_FUNDS = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
    "payment_required",
}
#: `failed_precondition` is Google's word for a region, or a project's billing, that it refuses.
_WRONG_KEY = {"invalid_api_key", "account_deactivated", "api_key_invalid", "failed_precondition"}
_MODERATED = {
    "content_policy_violation",
    "moderation_blocked",
    "image_generation_user_error",
    "content_filter",
    "content_moderation",
    # Stability AI's, of a prompt with words that it does not take.
    "invalid_prompts",
    "responsibleaipolicyviolation",
}
_UNSUPPORTED = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}

_TOO_LONG = re.compile(
    r"maximum context length|context (window|length|limit)|prompt is too long|input is too long"
    r"|too many (input )?tokens|token count.{0,40}exceeds",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_BLOCKED = re.compile(
    r"content (management )?policy|safety system|flagged by|moderation", re.IGNORECASE
)
#: The last is Replicate's, whose models have versions.
_NO_MODEL = re.compile(
    r"not a valid model( id)?\b|^model not exist|^the specified version does not exist",
    re.IGNORECASE,
)
_NO_SUCH_ABILITY = re.compile(r"no endpoints found that (support|can handle)", re.IGNORECASE)
_UNKNOWN_ARGUMENT = re.compile(r"unrecognized request arguments? supplied: (\w+)", re.IGNORECASE)
