"""Stability AI is asked once, and its refusals go by their names."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.settings import settings
from models.errors import (
    ContentPolicyViolation,
    InvalidRequest,
    JobCancelled,
    LikeDoError,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
)
from net.call import Call
from tests.providers.stability.drawing import CORE, XL, draw, failure
from tests.upstream import Step, Upstream

# ---- It is asked once


@pytest.mark.parametrize("model", [CORE, XL])
@pytest.mark.parametrize(
    "step",
    [
        {"cut": -1},
        {"cut": 20},
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 500, "body": "<html>Sorry</html>"},
        {"status": 500, "json": {"message": "Internal server error"}},
        {"status": 504, "json": {"id": "1", "name": "late", "errors": ["Late."]}},
    ],
)
def test_what_may_have_run_is_not_asked_again(
    upstream: Upstream, tmp_path: Path, step: Step, model: str
) -> None:
    upstream.script(step)

    error = failure(tmp_path, model=model)

    assert isinstance(error, ProviderFailed | ProviderTimeout)
    assert not error.nothing_ran
    assert upstream.counts()["received"] == 1


def test_an_answer_that_does_not_come_is_not_asked_for_again(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script({"delay": 60})

    error = failure(tmp_path, call=Call(1))

    assert isinstance(error, ProviderTimeout)
    assert not error.nothing_ran
    assert upstream.counts()["received"] == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_failure_it_names_has_made_nothing(
    upstream: Upstream, tmp_path: Path, status: int
) -> None:
    said = {"id": "1", "name": "internal_error", "errors": ["An unexpected error occurred."]}
    upstream.script({"status": status, "json": said})

    error = failure(tmp_path)

    assert type(error) is ProviderFailed
    assert error.nothing_ran
    assert upstream.counts()["received"] == 1


def test_what_nobody_heard_has_begun_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(settings, "stability_base_url", f"http://127.0.0.1:{port}")

    assert failure(tmp_path).nothing_ran


@pytest.mark.parametrize("model", [CORE, XL])
@pytest.mark.parametrize("step", [{"delay": 60}, {"body_delay": 60}])
def test_a_call_that_is_ended_ends_at_once(
    upstream: Upstream, tmp_path: Path, step: Step, model: str
) -> None:
    upstream.script(step)
    call, reason = Call(20), JobCancelled("Enough.")
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw, tmp_path, model=model, call=call)
        upstream.wait(received=1)

        call.abort(reason)

        assert drawing.exception() is reason
    upstream.wait(aborted=1)


# ---- Refusals


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "bad_request", InvalidRequest),
        (400, "invalid_samples", InvalidRequest),
        (400, "invalid_sdxl_v1_dimensions", InvalidRequest),
        (400, "invalid_prompts", ContentPolicyViolation),
        (401, "unauthorized", ProviderRefusedUs),
        (402, "payment_required", ProviderRefusedUs),
        (429, "insufficient_balance", ProviderRefusedUs),
        (403, "permission_denied", ProviderRefusedUs),
        (403, "content_moderation", ContentPolicyViolation),
        (404, "not_found", ModelGone),
        (410, "gone", ModelGone),
        (413, "payload_too_large", InvalidRequest),
        (422, "unprocessable", InvalidRequest),
        (429, "rate_limit_exceeded", ProviderBusy),
    ],
)
@pytest.mark.parametrize("model", [CORE, XL])
def test_a_refusal_goes_by_its_name(
    upstream: Upstream,
    tmp_path: Path,
    status: int,
    name: str,
    kind: type[LikeDoError],
    model: str,
) -> None:
    said = {"errors": ["No.", "Never."]} if model == CORE else {"message": "No.; Never."}
    upstream.script({"status": status, "json": {"id": "1", "name": name} | said})

    error = failure(tmp_path, model=model)

    assert type(error) is kind
    assert error.nothing_ran
    assert upstream.counts()["received"] == 1
    if isinstance(error, InvalidRequest):
        assert error.message == "No.; Never."
