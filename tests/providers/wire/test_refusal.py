"""Refusals in every shape that providers use."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from providers.wire import refusal as wire_refusal
from providers.wire import refusal_body
from tests.providers.wire.refusals import refusal, said


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, said(code="context_length_exceeded"), ContextLengthExceeded),
        (400, said("The maximum context length is 10 tokens."), ContextLengthExceeded),
        (400, said("prompt is too long: 9 tokens > 8 maximum"), ContextLengthExceeded),
        (400, said(code="content_policy_violation"), ContentPolicyViolation),
        (400, said(type="image_generation_user_error", code="moderation_blocked"),
         ContentPolicyViolation),
        (400, said(type="image_generation_user_error"), ContentPolicyViolation),
        (400, said(type="image_generation_user_error", code="billing_hard_limit_reached"),
         ProviderRefusedUs),
        (400, said("It was rejected by our safety system."), ContentPolicyViolation),
        (400, said(code="unsupported_parameter"), UnsupportedParameter),
        (400, said(code="unsupported_value"), UnsupportedParameter),
        (400, said("Unknown parameter: 'moderation'.", code="unknown_parameter"),
         UnsupportedParameter),
        (400, said(code="billing_hard_limit_reached"), ProviderRefusedUs),
        (400, said("Model Not Exist"), ModelGone),
        (400, said("acme/none is not a valid model ID"), ModelGone),
        (400, said(code="model_not_found"), ModelGone),
        (422, "Failed to deserialize: messages[0]", InvalidRequest),
        (413, said("Payload too large"), InvalidRequest),
        (403, said("Blocked", metadata={"reasons": ["violence"], "flagged_input": "…"}),
         ContentPolicyViolation),
        (403, said(code="unsupported_country_region_territory"), ProviderRefusedUs),
        (404, said("No endpoints found that can handle the requested parameters."),
         UnsupportedParameter),
        (429, said(code="insufficient_quota"), ProviderRefusedUs),
        (429, said("Request too large for x: Limit 1, Requested 2"), ContextLengthExceeded),
        (529, said("Overloaded"), ProviderFailed),
        (400, said(status="FAILED_PRECONDITION"), ProviderRefusedUs),
        (400, said(details=[{"reason": "API_KEY_INVALID"}]), ProviderRefusedUs),
        (400, said(status="INVALID_ARGUMENT", details=["x", {"reason": 5}]), InvalidRequest),
        (400, said("The input token count (9) exceeds the maximum number of tokens allowed (8)."),
         ContextLengthExceeded),
        (429, said("You exceeded your current quota.", status="RESOURCE_EXHAUSTED"),
         ProviderBusy),
        (400, {"id": "1", "name": "invalid_prompts", "message": "No."},
         ContentPolicyViolation),
        (403, {"id": "1", "name": "content_moderation", "errors": ["No."]},
         ContentPolicyViolation),
        (403, {"id": "1", "name": "permission_denied", "message": "No."}, ProviderRefusedUs),
        (429, {"id": "1", "name": "insufficient_balance", "message": "No."},
         ProviderRefusedUs),
        (402, {"id": "1", "name": "payment_required", "errors": ["No."]}, ProviderRefusedUs),
        (410, {"id": "1", "name": "gone", "message": "No."}, ModelGone),
        (422, {"title": "Input validation failed", "detail": "No."}, InvalidRequest),
        (429, {"detail": "Request was throttled."}, ProviderBusy),
    ],
)  # fmt: skip
def test_a_refusal_is_of_the_most_precise_class(
    status: int, body: Any, kind: type[LikeDoError]
) -> None:
    assert type(refusal(status, body)) is kind


def test_the_caller_learns_which_parameter_and_why() -> None:
    error = refusal(400, said("Invalid 'top_p'.", param="top_p", code="invalid_value"))

    assert (error.message, error.param) == ("Invalid 'top_p'.", "top_p")


def test_an_old_complaint_names_its_parameter_in_words() -> None:
    error = refusal(400, said("Unrecognized request argument supplied: chat", param=None))

    assert error.param == "chat"


def test_the_operators_troubles_are_told_in_our_words() -> None:
    for status in (401, 402, 403):
        error = refusal(status, said("Account 12 of Example Ltd owes us money."))

        assert "Example" not in error.message


def test_a_provider_behind_the_provider_is_heard() -> None:
    inner = json.dumps(said("Too hot.", param="temperature", code="unsupported_value"))
    body = said("Provider returned error", code=400, metadata={"raw": inner})

    error = refusal(400, body)

    assert type(error) is UnsupportedParameter
    assert (error.message, error.param) == ("Too hot.", "temperature")


def test_headers_that_are_none_are_not_read() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    body = (
        b'{"error": {"metadata": {"headers": {"Retry-After": 7, "X-A": %s, "X-B": null}}}}' % deep
    )

    error = wire_refusal.refusal("vendor", Response(429, {}, body))

    assert error.retry_after == 7


def test_a_parameters_name_is_no_way_out_for_a_key() -> None:
    error = refusal(400, said(param="sk-proj-0123456789abcdef" + "x" * 10_000))

    assert error.param == "[redacted]"


def test_a_provider_behind_the_provider_may_speak_plainly() -> None:
    body = said("Provider returned error", code=400, metadata={"raw": "That is too hot."})

    assert refusal(400, body).message == "That is too hot."


@pytest.mark.parametrize("body", [[said("In a list.")], {"error": "In a list."}])
def test_an_error_may_be_wrapped_otherwise(body: Any) -> None:
    assert refusal(400, body).message == "In a list."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "bad_request", "errors": ["Too high.", None, "Too long."]},
         "Too high.; Too long."),
        ({"title": "Input validation failed", "detail": "- input.seed: no.\n"},
         "- input.seed: no."),
        ({"title": "Input validation failed", "detail": [5]}, "Input validation failed"),
        ({"message": "First.", "errors": ["Then."], "detail": "Last."}, "First."),
    ],
)  # fmt: skip
def test_an_error_may_say_it_in_other_fields(body: Any, message: str) -> None:
    assert refusal(422, body).message == message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([{"type": "required", "field": "input.prompt"}], "prompt"),
        ([None, {}, {"field": 5}, {"field": "input"}], "input"),
        ({}, None),
        ([], None),
    ],
)
def test_the_input_that_replicate_finds_at_fault_is_named(fields: Any, param: str | None) -> None:
    assert refusal(422, {"detail": "No.", "invalid_fields": fields}).param == param


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "Slow down."}, ProviderBusy),
        ({"code": 504, "message": "Late."}, ProviderTimeout),
        ({"code": 400, "message": "Bad."}, InvalidRequest),
        ({"code": "rate_limit_exceeded", "message": "Slow down."}, ProviderBusy),
        ({"code": 7, "message": "?"}, ProviderFailed),
        ({"code": None, "metadata": {"error_type": "context_length_exceeded"}},
         ContextLengthExceeded),
        ("Just words.", ProviderFailed),
        (None, ProviderFailed),
    ],
)  # fmt: skip
def test_an_error_within_a_200_goes_by_its_own_code(error: Any, kind: type[LikeDoError]) -> None:
    assert type(wire_refusal.refusal_within("vendor", error, {})) is kind


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123456",
        "sk-or-v1-0123456789abcdef",
        "AIzaSyA0123456789abcdef",
        "r8_0123456789abcdef",
        "Bearer something-else",
        "bad-key-**********test",
        "****-key",
        "org-a1b2c3d4e5f6",
        "proj_a1b2c3d4e5f6",
    ],
)
def test_what_looks_like_a_key_is_taken_out(secret: str) -> None:
    assert refusal_body.scrub(f"Given {secret}: no.") == "Given [redacted]: no."


@pytest.mark.parametrize("words", ["user-provided input", "a sketch of organic keywords", "a ** b"])
def test_ordinary_words_stay(words: str) -> None:
    assert refusal_body.scrub(words) == words


@given(st.text())
def test_a_message_is_never_long(text: str) -> None:
    assert len(refusal_body.scrub(text * 40)) <= refusal_body.MAX_MESSAGE_CHARACTERS + len(
        "[redacted]"
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "metadata", "raw", "param", "details", "detail"]
                + ["errors", "title", "name", "invalid_fields", "field"]
            )
            | st.text(),
            inner,
            max_size=4,
        )
    ),
)


@given(st.integers(400, 599), ANYTHING | st.text())
def test_no_body_is_too_odd_to_be_an_error(status: int, body: Any) -> None:
    assert isinstance(refusal(status, body), LikeDoError)


@pytest.mark.parametrize(
    ("details", "param"),
    [
        ([{"fieldViolations": [{"field": "contents[0].parts[1]"}]}], "contents[0].parts[1]"),
        ([{"fieldViolations": [None, {}, {"field": 5}]}], None),
        ([{"fieldViolations": {}}, None], None),
        ({}, None),
    ],
)
def test_the_field_that_google_finds_at_fault_is_named(details: Any, param: str | None) -> None:
    assert refusal(400, said(details=details)).param == param


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INVALID_ARGUMENT", InvalidRequest),
        ("PERMISSION_DENIED", ProviderRefusedUs),
        ("RESOURCE_EXHAUSTED", ProviderBusy),
        ("DEADLINE_EXCEEDED", ProviderTimeout),
        ("UNAVAILABLE", ProviderFailed),
    ],
)
def test_googles_word_for_a_status_stands_for_it(status: str, kind: type[LikeDoError]) -> None:
    error = wire_refusal.refusal_within("vendor", {"message": "No.", "status": status}, {})

    assert type(error) is kind
