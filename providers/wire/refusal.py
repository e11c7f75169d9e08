"""Turning a provider's refusal into the error of ours that fits best."""

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
    """Return the error of ours for a `response` with an error status."""
    reported = refusal_body.read(response.status, response.headers, response.content)
    return _translated(provider, reported)


def refusal_within(provider: str, error: Any, headers: Mapping[str, str]) -> LikeDoError:
    """Return the error of ours for an `error` object inside an answer of status 200."""
    reported = refusal_body.parsed(0, headers, {"error": error})
    return _translated(provider, reported)


def _translated(provider: str, reported: ProviderError) -> LikeDoError:
    """Return the most precise error of ours for what the provider `reported`."""
    error = _most_precise(provider, reported)
    error.upstream_status, error.stated_delay = reported.status, reported.retry_after
    error.nothing_ran = 400 <= reported.status < 500 and reported.status not in _UNCLEAR
    return error


def _most_precise(provider: str, reported: ProviderError) -> LikeDoError:
    if _has_word(reported, _OUT_OF_FUNDS | _WRONG_KEY):
        return _refused_us(provider, reported)
    if "model_not_found" in reported.words or _NO_MODEL.search(reported.message):
        return _gone(provider)
    match reported.status:
        case 400 | 413 | 422:
            return _invalid(provider, reported)
        case 403 if reported.moderated or _has_word(reported, _MODERATED):
            return _blocked(provider, reported)
        case 401 | 402 | 403:
            return _refused_us(provider, reported)
        case 404 if _NO_SUCH_ABILITY.search(reported.message):
            return _unsupported(provider, reported)
        case 404 | 410:
            return _gone(provider)
        case 429 if _TOO_LARGE.search(reported.message):
            return ContextLengthExceeded(_message(provider, reported), param="messages")
        case 429:
            return ProviderBusy(f"{provider} is busy.", retry_after=reported.retry_after)
        case 504:
            return ProviderTimeout(f"{provider} did not answer in time (HTTP 504).")
        case status:
            return ProviderFailed(f"{provider} failed (HTTP {status}).")


def _invalid(provider: str, reported: ProviderError) -> LikeDoError:
    if _has_word(reported, {"context_length_exceeded"}) or _TOO_LONG.search(reported.message):
        return ContextLengthExceeded(_message(provider, reported), param="messages")
    if _has_word(reported, _UNSUPPORTED) or _UNKNOWN_ARGUMENT.search(reported.message):
        return _unsupported(provider, reported)
    if reported.moderated or _has_word(reported, _MODERATED) or _BLOCKED.search(reported.message):
        return _blocked(provider, reported)
    return InvalidRequest(_message(provider, reported), param=reported.param)


def _unsupported(provider: str, reported: ProviderError) -> LikeDoError:
    unknown = _UNKNOWN_ARGUMENT.search(reported.message)
    param = reported.param or (unknown.group(1) if unknown else None)
    return UnsupportedParameter(_message(provider, reported), param=param)


def _blocked(provider: str, reported: ProviderError) -> LikeDoError:
    return ContentPolicyViolation(_message(provider, reported), param=reported.param)


def _refused_us(provider: str, reported: ProviderError) -> LikeDoError:
    return ProviderRefusedUs(
        f"{provider} refuses this service's key, funds or region (HTTP {reported.status or 200}). "
        "Its operator has to see to that."
    )


def _gone(provider: str) -> LikeDoError:
    return ModelGone(f"{provider} does not have this model, or no longer.")


def _message(provider: str, reported: ProviderError) -> str:
    return reported.message or f"{provider} takes this request for invalid and does not say why."


def _has_word(reported: ProviderError, words: set[str]) -> bool:
    return not words.isdisjoint(reported.words)


#: Refusals that may come after the work had begun: a timeout, a client that disconnected.
_UNCLEAR = {408, 499}

_OUT_OF_FUNDS = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
    "payment_required",
}
#: Google answers `failed_precondition` if it refuses a region or a project's billing.
_WRONG_KEY = {"invalid_api_key", "account_deactivated", "api_key_invalid", "failed_precondition"}
_MODERATED = {
    "content_policy_violation",
    "moderation_blocked",
    "image_generation_user_error",
    "content_filter",
    "content_moderation",
    # Stability AI's, for a prompt with words that it does not allow.
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
#: The last one is Replicate's, whose models have versions.
_NO_MODEL = re.compile(
    r"not a valid model( id)?\b|^model not exist|^the specified version does not exist",
    re.IGNORECASE,
)
_NO_SUCH_ABILITY = re.compile(r"no endpoints found that (support|can handle)", re.IGNORECASE)
_UNKNOWN_ARGUMENT = re.compile(r"unrecognized request arguments? supplied: (\w+)", re.IGNORECASE)
