"""When images are requested again, elsewhere or no more."""

import json
from typing import Any

import pytest

from tests.api.image.asking import CAT, DALL_E, FLUX, ask, leave, look_at, predictions
from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch, wait_until
from tests.upstream import Upstream


@ON_SQLITE
@pytest.mark.parametrize(
    "step",
    [
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 504, "json": {"error": {"message": "Late."}}},
        {"cut": -1},
        {"cut": 40},
    ],
)
def test_images_that_may_have_been_made_are_not_requested_again(
    server: Server, account: Account, upstream: Upstream, step: dict[str, Any]
) -> None:
    upstream.script(step | {"match": "/images/generations"})

    status, headers, _ = ask(server, account, DALL_E)

    assert status in (502, 504)
    assert headers["x-attempts"] == "1"
    assert len(upstream.calls()) == 1
    assert account.standing() == (10_000, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    "step",
    [
        {"status": 500, "json": {"error": {"message": "Sorry.", "type": "server_error"}}},
        {"status": 503, "json": {"error": {"message": "Overloaded.", "type": "server_error"}}},
        {"status": 429, "headers": {"retry-after": "0"}, "json": {"error": {"message": "Slow."}}},
        {"status": 404, "json": {"error": {"code": "model_not_found", "message": "Gone."}}},
    ],
)
def test_images_that_were_certainly_not_made_are_requested_again(
    server: Server, account: Account, upstream: Upstream, step: dict[str, Any]
) -> None:
    upstream.script(step | {"match": "/images/generations"})

    status, headers, _ = ask(server, account, DALL_E)

    assert status == 200
    assert headers["x-attempts"] == "2"
    assert account.standing() == (9_990, 0)


def test_a_model_that_is_gone_is_made_up_for_by_its_next_route(
    server: Server, account: Account, upstream: Upstream
) -> None:
    gone = {"status": 404, "json": {"id": "1", "name": "not_found", "errors": ["No such model."]}}
    upstream.script(gone | {"match": "/v2beta/"}, gone | {"match": "/v2beta/"})

    status, headers, body = ask(server, account, {"model": "stable-diffusion-xl", "prompt": CAT})

    assert status == 200
    assert headers["x-upstream-model"] == "stable-diffusion-xl-1024-v1-0"
    assert look_at(body["data"][0]["url"])[1] == (1024, 1024)


def test_a_fallback_makes_what_the_model_cannot(
    server: Server, account: Account, upstream: Upstream
) -> None:
    gone = {"status": 404, "json": {"error": {"code": "model_not_found", "message": "Gone."}}}
    upstream.script(*[gone | {"match": "/openai/"}] * 2)

    status, headers, _ = ask(server, account, DALL_E | {"fallbacks": ["flux-pro"]})

    assert (status, headers["x-provider"]) == (200, "replicate")


def test_a_client_that_ends_its_call_ends_the_prediction(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"prediction": {"hold": True}})

    leave(server, account, upstream, FLUX | {"on_disconnect": "cancel"})

    wait_until(lambda: account.jobs()[0]["status"] == "cancelled", "the job is cancelled")
    paths = [call["path"] for call in upstream.calls()]
    assert sum(path.endswith("/cancel") for path in paths) == 1
    assert len(predictions(upstream)) == 1
    assert account.standing() == (10_000, 0)


def test_a_call_whose_client_leaves_is_fetched_as_a_job(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"prediction": {"hold": True}})

    leave(server, account, upstream, FLUX)
    upstream.release()

    wait_until(lambda: account.jobs()[0]["status"] == "completed", "the job is completed")
    job = json.loads(fetch(f"{server.api}/jobs/{account.jobs()[0]['id']}", key=account.key)[2])
    assert look_at(job["result"]["data"][0]["url"]) == ("PNG", (1024, 1024))
    assert account.standing() == (9_990, 0)
