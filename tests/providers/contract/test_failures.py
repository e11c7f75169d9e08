"""What every provider's failures become, and that none of them shows our key."""

from typing import Any

import orjson
import pytest

from models.errors import (
    InvalidRequest,
    LikeDoError,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
)
from providers.base import Provider
from tests.providers.contract.everyone import KEY, both_ways, every_remote_provider, refusal
from tests.upstream import Upstream

#: What each status means, whoever answers with it.
STATUSES: dict[int, type[LikeDoError]] = {
    400: InvalidRequest,
    401: ProviderRefusedUs,
    402: ProviderRefusedUs,
    403: ProviderRefusedUs,
    404: ModelGone,
    408: ProviderFailed,
    409: ProviderFailed,
    418: ProviderFailed,
    422: InvalidRequest,
    429: ProviderBusy,
    500: ProviderFailed,
    502: ProviderFailed,
    503: ProviderFailed,
    504: ProviderTimeout,
    520: ProviderFailed,
    302: ProviderFailed,
}


@both_ways
@every_remote_provider
def test_a_status_has_its_class(
    provider: Provider, upstream: Upstream, way_to_ask: Any, subtests: pytest.Subtests
) -> None:
    said = {"error": {"message": "No.", "type": None, "param": None, "code": None}}

    for status, kind in STATUSES.items():
        with subtests.test(status=status):
            error = refusal(provider, upstream, {"status": status, "json": said}, way_to_ask)

            assert type(error) is kind


@both_ways
@every_remote_provider
def test_a_page_of_html_shows_nothing_of_itself(
    provider: Provider, upstream: Upstream, way_to_ask: Any, subtests: pytest.Subtests
) -> None:
    page = "<!DOCTYPE html><title>Sorry</title><center>cloudflare</center>"
    step = {"headers": {"content-type": "text/html"}, "body": page}

    for status in (400, 401, 403, 404, 422, 429, 500, 502):
        with subtests.test(status=status):
            error = refusal(provider, upstream, step | {"status": status}, way_to_ask)

            assert "cloudflare" not in error.message
            assert "<" not in error.message


@both_ways
@every_remote_provider
def test_no_error_quotes_our_key(
    provider: Provider, upstream: Upstream, way_to_ask: Any, subtests: pytest.Subtests
) -> None:
    said = {"error": {"message": f"Bad key: {KEY}, Bearer {KEY} or sk-12*********cdEF."}}

    for status in (200, 400, 401, 403, 404, 422, 429, 500):
        with subtests.test(status=status):
            error = refusal(provider, upstream, {"status": status, "json": said}, way_to_ask)

            assert KEY not in error.message
            assert "cdEF" not in error.message


NOT_ANSWERS: list[dict[str, Any]] = [
    {"body": ""},
    {"body": "   "},
    {"body": "OK"},
    {"body": "<html>"},
    {"json": None},
    {"json": []},
    {"json": "text"},
    {"json": {}},
    {"json": {"choices": []}},
    {"json": {"choices": None}},
    {"json": {"choices": [None]}},
    {"json": {"choices": [{"message": None}]}},
    {"json": {"error": {"message": "Something.", "code": None}}},
    {"json": {"error": "Something."}},
    {"cut": 30},
    {"cut": -1},
    {"chunked": True, "cut": 30},
    {"raw": "no HTTP at all"},
]


@both_ways
@every_remote_provider
def test_a_200_without_an_answer_is_a_failure(
    provider: Provider, upstream: Upstream, way_to_ask: Any, subtests: pytest.Subtests
) -> None:
    for step in NOT_ANSWERS:
        with subtests.test(str(step)):
            assert type(refusal(provider, upstream, step, way_to_ask)) is ProviderFailed


@both_ways
@every_remote_provider
def test_a_busy_provider_says_for_how_long(
    provider: Provider, upstream: Upstream, way_to_ask: Any
) -> None:
    step = {"status": 429, "headers": {"Retry-After": "7"}, "json": {"error": {"message": "Slow"}}}

    assert refusal(provider, upstream, step, way_to_ask).retry_after == 7


@both_ways
@every_remote_provider
def test_the_key_goes_along(provider: Provider, upstream: Upstream, way_to_ask: Any) -> None:
    way_to_ask(provider)

    (call,) = upstream.calls()
    assert KEY in orjson.dumps(call["headers"]).decode()
    assert KEY not in call["path"]
