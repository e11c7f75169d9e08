"""A prediction is begun once, or not at all."""

import socket
from pathlib import Path
from typing import Any

import pytest

from config.settings import settings
from models.errors import (
    InvalidRequest,
    LikeDoError,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
)
from net.call import Call
from tests.providers.replicate.drawing import creates, draw, failure
from tests.upstream import Step, Upstream


@pytest.mark.parametrize(
    "step",
    [
        {"cut": -1},
        {"status": 201, "cut": 5},
        {"status": 500, "json": {"detail": "Internal error", "status": 500}},
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 503, "json": {"detail": "Unavailable"}, "headers": {"retry-after": "0"}},
        {"status": 201, "body": "<html>Hello</html>"},
        {"status": 302, "headers": {"location": "/replicate/predictions"}},
    ],
)
def test_what_may_have_been_begun_is_not_begun_again(
    upstream: Upstream, tmp_path: Path, step: Step
) -> None:
    upstream.script(step)

    error = failure(tmp_path)

    assert isinstance(error, ProviderFailed)
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


def test_a_kept_connection_is_not_trusted_with_it(upstream: Upstream, tmp_path: Path) -> None:
    draw(tmp_path)
    upstream.script({"cut": -1})

    error = failure(tmp_path)

    assert not error.nothing_ran
    assert len(creates(upstream)) == 2


def test_what_nobody_heard_has_begun_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(settings, "replicate_base_url", f"http://127.0.0.1:{port}")

    error = failure(tmp_path)

    assert isinstance(error, ProviderFailed)
    assert error.nothing_ran


PROBLEM = {"content-type": "application/problem+json"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"title": "Unauthenticated", "detail": "You did not pass a valid token"},
         ProviderRefusedUs),
        (402, {"title": "Insufficient credit", "detail": "You have insufficient credit."},
         ProviderRefusedUs),
        (404, {"detail": "The requested resource could not be found."}, ModelGone),
        (422, {"title": "Invalid version or not permitted", "detail": "The specified version does "
          "not exist (or perhaps you don't have permission to use it?)"}, ModelGone),
        (422, {"title": "Input validation failed", "detail": "- input.prompt: is required\n"},
         InvalidRequest),
        (429, {"detail": "Request was throttled. Expected available in 3 seconds."},
         ProviderBusy),
    ],
)  # fmt: skip
def test_a_refusal_has_begun_nothing(
    upstream: Upstream, tmp_path: Path, status: int, body: Any, kind: type[LikeDoError]
) -> None:
    upstream.script({"status": status, "json": body | {"status": status}, "headers": PROBLEM})

    error = failure(tmp_path)

    assert type(error) is kind
    assert error.nothing_ran
    assert upstream.counts()["received"] == 1


def test_a_busy_provider_says_how_long(upstream: Upstream, tmp_path: Path) -> None:
    said = {"detail": "Request was throttled. Your rate limit resets in ~30s."}
    upstream.script(
        {"status": 429, "json": said, "headers": PROBLEM | {"ratelimit-reset": "12"}},
        {"status": 429, "json": {}, "headers": PROBLEM | {"ratelimit-reset": "12"}},
    )

    assert [failure(tmp_path).stated_delay for _ in range(2)] == [30, 12]
