"""Images that fail or cannot be had: what the caller is told, and that it is free."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.api.image.asking import CAT, DALL_E, FLUX, NOT_AN_IMAGE, ask, look_at
from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch
from tests.upstream import Upstream


def test_some_of_four_may_fail_and_the_others_are_delivered(
    server: Server, account: Account, upstream: Upstream
) -> None:
    failed = {"ends": "failed", "error": "NSFW content detected. Try a different prompt."}
    for course in ({}, {}, {"output": NOT_AN_IMAGE}, failed):
        upstream.script({"match": "/predictions", "prediction": course})

    status, headers, body = ask(server, account, FLUX | {"n": 4})

    assert status == 200
    assert len(body["data"]) == 2
    assert {look_at(datum["url"]) for datum in body["data"]} == {("PNG", (1024, 1024))}
    assert {error["error"]["code"] for error in body["errors"]} == {
        "provider_error",
        "content_policy_violation",
    }
    assert len({error["index"] for error in body["errors"]}) == 2
    assert body["credits_consumed"] == 20
    assert headers["x-credits-consumed"] == "20"
    assert account.standing() == (9_980, 0)


def test_if_all_fail_it_is_an_error_and_free(
    server: Server, account: Account, upstream: Upstream
) -> None:
    for _ in range(2):
        upstream.script({"prediction": {"ends": "failed", "error": "It broke."}})

    status, headers, body = ask(server, account, FLUX | {"n": 2})

    assert (status, body["error"]["code"]) == (502, "provider_error")
    assert headers["x-credits-consumed"] == "0"
    assert account.standing() == (10_000, 0)


@ON_SQLITE
@pytest.mark.parametrize(
    "refusal",
    [
        {"code": "content_policy_violation", "type": "invalid_request_error"},
        {"code": "moderation_blocked", "type": "image_generation_user_error"},
    ],
)
def test_a_refused_prompt_is_the_callers_to_change(
    server: Server, account: Account, upstream: Upstream, refusal: dict[str, str]
) -> None:
    told = refusal | {"message": "Your request was rejected by our safety system."}
    upstream.script({"status": 400, "json": {"error": told}})

    status, headers, body = ask(server, account, DALL_E)

    assert (status, body["error"]["code"]) == (400, "content_policy_violation")
    assert headers["x-should-retry"] == "false"
    assert account.standing() == (10_000, 0)
    assert len(upstream.calls()) == 1


#: (body, param, code)
IMPOSSIBLE: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "dall-e-3"}, "prompt", "missing_required_parameter"),
    ({"prompt": CAT}, "model", "missing_required_parameter"),
    (DALL_E | {"prompt": "  "}, "prompt", "invalid_parameter"),
    (DALL_E | {"n": 5}, "n", "invalid_parameter"),
    (DALL_E | {"n": 0}, "n", "invalid_parameter"),
    (DALL_E | {"size": "big"}, "size", "invalid_parameter"),
    (DALL_E | {"quality": "best"}, "quality", "invalid_parameter"),
    (DALL_E | {"response_format": "png"}, "response_format", "invalid_parameter"),
    (DALL_E | {"stream": True}, "stream", "unsupported_parameter"),
    (DALL_E | {"size": "1000x1000"}, "size", "unsupported_parameter"),
    (FLUX | {"style": "vivid"}, "style", "unsupported_parameter"),
    (FLUX | {"model": "flux-schnell", "quality": "hd"}, "quality", "unsupported_parameter"),
    (FLUX | {"background": "transparent"}, "background", "unsupported_parameter"),
    (FLUX | {"negative_prompt": "dogs"}, "negative_prompt", "unsupported_parameter"),
    (FLUX | {"provider": "openai"}, "provider", "invalid_parameter"),
]


@ON_SQLITE
def test_what_cannot_be_done_is_refused_by_name(
    server: Server, account: Account, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    for body, param, code in IMPOSSIBLE:
        with subtests.test(str(body)):
            status, _, said = ask(server, account, body)

            assert (status, said["error"]["code"], said["error"]["param"]) == (400, code, param)

    assert upstream.calls() == []
    assert account.standing() == (10_000, 0)


@ON_SQLITE
@pytest.mark.parametrize("model", ["gpt-4", "no-such-model", "openai/gpt-4.1"])
def test_a_model_that_makes_no_images_is_not_found(
    server: Server, account: Account, model: str
) -> None:
    status, _, body = ask(server, account, {"model": model, "prompt": CAT})

    assert (status, body["error"]["code"]) == (404, "model_not_found")


@ON_SQLITE
def test_a_model_that_makes_images_does_not_chat(server: Server, account: Account) -> None:
    body = {"model": "dall-e-3", "messages": [{"role": "user", "content": "Hello"}]}
    status, _, content = fetch(f"{server.api}/chat/completions", body, key=account.key)

    assert (status, json.loads(content)["error"]["code"]) == (404, "model_not_found")


def test_more_than_the_balance_is_refused_before_anybody_is_asked(
    server: Server, upstream: Upstream
) -> None:
    account = server.stack.account(credits=39)

    status, _, body = ask(server, account, DALL_E | {"n": 4})

    assert (status, body["error"]["code"]) == (402, "insufficient_credits")
    assert "40 credits" in body["error"]["message"]
    assert upstream.calls() == []


@ON_SQLITE
def test_unknown_parameters_go_to_openai_as_they_came(
    server: Server, account: Account, upstream: Upstream
) -> None:
    status, _, _ = ask(
        server, account, DALL_E | {"background": "transparent", "input_fidelity": "high"}
    )

    assert status == 200
    sent = upstream.calls()[0]["body"]
    assert (sent["background"], sent["input_fidelity"]) == ("transparent", "high")


@ON_SQLITE
def test_the_sdk_raises_what_it_knows(server: Server, account: Account, upstream: Upstream) -> None:
    with (
        OpenAI(base_url=server.api, api_key=account.key, max_retries=0) as sdk,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        sdk.images.generate(model="flux-schnell", prompt=CAT, quality="hd")

    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == "quality"
