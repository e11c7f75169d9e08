"""A plain chat, as the official OpenAI SDK and a bare HTTP client see it."""

import asyncio
import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch
from tests.upstream import Upstream

#: The example of the product's documentation.
EXAMPLE = {
    "model": "gpt-4",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "temperature": 0.7,
    "max_tokens": 500,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def client(server: Server, account: Account, **options: object) -> OpenAI:
    return OpenAI(base_url=server.api, api_key=account.key, **{"max_retries": 0, **options})  # type: ignore[arg-type]  # options of any type


def test_the_sdk_gets_an_answer_that_was_paid_for_once(
    server: Server, account: Account, upstream: Upstream
) -> None:
    with client(server, account) as sdk:
        answer = sdk.chat.completions.create(**EXAMPLE)  # type: ignore[call-overload]  # a dict of arguments

    assert answer.object == "chat.completion"
    assert answer.model == "gpt-4"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.credits_consumed == 1
    assert account.standing() == (9_999, 0)
    assert account.entries() == [("grant", 10_000), ("charge", -1)]
    assert len(upstream.calls()) == 1


def test_the_async_sdk_gets_many_answers_at_once(
    server: Server, account: Account, upstream: Upstream
) -> None:
    async def ask_all() -> list[str | None]:
        async with AsyncOpenAI(base_url=server.api, api_key=account.key, max_retries=0) as sdk:
            calls = [sdk.chat.completions.create(**EXAMPLE) for _ in range(20)]  # type: ignore[call-overload]  # a dict of arguments
            return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]

    answers = asyncio.run(ask_all())

    assert len(answers) == 20 and all(answers)
    assert account.standing() == (9_980, 0)
    assert len(upstream.calls()) == 20


def test_the_headers_say_what_the_call_was_and_cost(server: Server, account: Account) -> None:
    with client(server, account) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(**EXAMPLE)  # type: ignore[call-overload]  # a dict of arguments

    headers = raw.headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-job-id"].startswith("job_")
    assert headers["x-provider"] == "openai"
    assert headers["x-credits-consumed"] == "1"
    assert headers["x-credits-remaining"] == "9999"
    assert headers["x-ratelimit-limit-requests"] == "2000"
    assert headers["x-ratelimit-remaining-requests"] == "1999"
    assert headers["x-ratelimit-reset-requests"] in ("59m59s", "1h0m0s")
    assert "x-max-tokens-applied" not in headers
    assert account.jobs()[0]["id"] == headers["x-job-id"]


def test_the_upstream_gets_what_the_caller_sent_and_nothing_of_ours(
    server: Server, account: Account, upstream: Upstream
) -> None:
    extra = {"prompt_cache_key": "mine", "provider": "openai", "on_disconnect": "finish"}
    fetch(
        f"{server.api}/chat/completions?key={account.key}",
        EXAMPLE | extra | {"tools": [WEATHER], "seed": 7, "logprobs": True, "n": 2},
    )

    call = upstream.calls()[0]
    assert call["headers"]["authorization"] == "Bearer sk-openai-upstream"
    sent = call["body"]
    assert sent["messages"] == EXAMPLE["messages"]
    assert sent["temperature"] == 0.7
    assert (sent["tools"], sent["seed"], sent["logprobs"], sent["n"]) == ([WEATHER], 7, True, 2)
    assert sent["prompt_cache_key"] == "mine"
    assert sent["max_tokens"] == 500
    assert not {"provider", "on_disconnect", "stream", "key"} & set(sent)


def test_both_base_paths_are_the_same_api(server: Server, account: Account) -> None:
    for base in ("/api/v1/ai", "/v1"):
        with OpenAI(base_url=server.url + base, api_key=account.key) as sdk:
            assert "gpt-4" in {model.id for model in sdk.models.list()}
            assert sdk.models.retrieve("gpt-4").owned_by == "openai"


def test_a_call_without_max_tokens_is_capped_and_says_so(
    server: Server, account: Account, upstream: Upstream
) -> None:
    _, headers, _ = fetch(
        f"{server.api}/chat/completions",
        {"model": "gpt-4", "messages": EXAMPLE["messages"]},
        key=account.key,
    )

    assert headers["x-max-tokens-applied"] == "8192"
    assert upstream.calls()[0]["body"]["max_tokens"] == 8192


def test_a_small_balance_buys_a_shorter_answer(server: Server, upstream: Upstream) -> None:
    poor = server.stack.account(credits=3)

    got, headers, _ = fetch(
        f"{server.api}/chat/completions",
        {"model": "gpt-4", "messages": EXAMPLE["messages"]},
        key=poor.key,
    )

    applied = int(headers["x-max-tokens-applied"])
    assert got == 200
    assert 900 < applied < 1000
    assert upstream.calls()[0]["body"]["max_tokens"] == applied


def test_too_small_a_balance_is_a_402_that_is_final(server: Server, upstream: Upstream) -> None:
    poor = server.stack.account(credits=1)

    with client(server, poor) as sdk, pytest.raises(openai.APIStatusError) as refused:
        sdk.chat.completions.create(**EXAMPLE)  # type: ignore[call-overload]  # a dict of arguments

    assert refused.value.status_code == 402
    assert refused.value.code == "insufficient_credits"
    assert refused.value.type == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "2 credits" in str(refused.value) and "balance is 1" in str(refused.value)
    # There is no such job.
    assert "x-job-id" not in refused.value.response.headers
    assert (poor.standing(), upstream.calls()) == ((1, 0), [])


BAD, OURS = openai.BadRequestError, openai.InternalServerError


@ON_SQLITE
@pytest.mark.parametrize(
    ("status", "error", "raised", "seen"),
    [
        (400, {"code": "invalid_value", "param": "x"}, BAD, "invalid_parameter"),
        (400, {"code": "context_length_exceeded"}, BAD, "context_length_exceeded"),
        (401, {"code": "invalid_api_key"}, OURS, "provider_auth_error"),
        (403, {}, OURS, "provider_auth_error"),
        (429, {"code": "rate_limit_exceeded"}, OURS, "overloaded"),
        (429, {"code": "insufficient_quota"}, OURS, "provider_auth_error"),
        (500, {}, OURS, "provider_error"),
        (503, {}, OURS, "provider_error"),
        (504, {}, OURS, "provider_timeout"),
    ],
)
def test_a_providers_error_is_ours_to_the_sdk_and_costs_nothing(
    server: Server,
    account: Account,
    upstream: Upstream,
    status: int,
    error: dict[str, str],
    raised: type[openai.APIStatusError],
    seen: str,
) -> None:
    said = {"message": "Incorrect API key provided: sk-op***."} | error
    upstream.script(default={"status": status, "json": {"error": said}})

    with client(server, account) as sdk, pytest.raises(raised) as caught:
        sdk.chat.completions.create(**EXAMPLE, extra_body={"provider": "openai"})  # type: ignore[call-overload]  # a dict of arguments

    assert caught.value.code == seen
    assert "sk-op" not in str(caught.value)
    assert caught.value.response.headers["x-job-id"].startswith("job_")
    headers = caught.value.response.headers
    assert headers["x-provider"] == "openai"
    assert (headers["x-credits-consumed"], headers["x-credits-remaining"]) == ("0", "10000")
    assert account.standing() == (10_000, 0)
    assert account.jobs()[0]["status"] == "failed"


def test_the_sdk_raises_its_own_classes_for_our_refusals(server: Server, account: Account) -> None:
    with client(server, account) as sdk:
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(**EXAMPLE | {"model": "no-such-model"})  # type: ignore[call-overload]  # a dict of arguments
        with pytest.raises(openai.BadRequestError):
            sdk.chat.completions.create(**EXAMPLE | {"temperature": 9})  # type: ignore[call-overload]  # a dict of arguments
        with pytest.raises(openai.AuthenticationError):
            sdk.with_options(api_key="lk-nobody").models.list()


def test_tools_go_there_and_back(server: Server, account: Account, upstream: Upstream) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
    }
    upstream.script(
        {
            "json": {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-4.1",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                        "finish_reason": "tool_calls",
                    }
                ],
                "usage": {"prompt_tokens": 900, "completion_tokens": 700, "total_tokens": 1600},
            }
        }
    )

    with client(server, account) as sdk:
        answer = sdk.chat.completions.create(**EXAMPLE, tools=[WEATHER])  # type: ignore[call-overload]  # a dict of arguments

    made = answer.choices[0].message.tool_calls[0]
    assert (made.id, made.function.name) == ("call_1", "weather")
    assert json.loads(made.function.arguments) == {"city": "Paris"}
    # 900 tokens in and 700 out are 3 credits, whatever was held.
    assert answer.credits_consumed == 3
    assert account.standing() == (9_997, 0)


def test_a_model_that_the_vendor_retired_is_skipped_not_shown(
    server: Server, account: Account, upstream: Upstream
) -> None:
    gone = {"status": 404, "json": {"error": {"message": "gone", "code": "model_not_found"}}}
    upstream.script(gone)

    got, _, _ = fetch(f"{server.api}/chat/completions", EXAMPLE, key=account.key)

    assert got == 200
    assert len(upstream.calls()) == 2


def test_a_job_can_be_looked_at_by_its_own_account_only(server: Server, account: Account) -> None:
    _, headers, body = fetch(f"{server.api}/chat/completions", EXAMPLE, key=account.key)
    url = f"{server.api}/jobs/{headers['x-job-id']}"

    job = json.loads(fetch(url, key=account.key)[2])

    assert (job["object"], job["kind"], job["status"]) == ("job", "chat", "completed")
    assert (job["credits_held"], job["credits_consumed"]) == (2, 1)
    assert job["created"] <= job["started_at"] <= job["finished_at"]
    assert job["result"] == json.loads(body)
    assert (job["error"], job["queue_position"], job["attempts"]) == (None, None, 1)
    assert fetch(url, key=server.stack.account().key)[0] == 404


def test_a_body_too_large_for_redis_takes_the_other_way(
    server: Server, account: Account, upstream: Upstream
) -> None:
    long = "word " * 40_000

    got, _, _ = fetch(
        f"{server.api}/chat/completions",
        EXAMPLE | {"messages": [{"role": "user", "content": long}]},
        key=account.key,
    )

    assert got == 200
    assert upstream.calls()[0]["body"]["messages"][0]["content"] == long
    (job,) = account.jobs()
    assert not (server.stack.folder / "var" / "files" / "bodies" / job["id"]).exists()


def test_credits_show_the_balance_and_the_plan(server: Server, account: Account) -> None:
    answer = json.loads(fetch(f"{server.api}/credits", key=account.key)[2])

    assert answer == {
        "object": "credits",
        "balance": 10_000,
        "held": 0,
        "available": 10_000,
        "plan": "pro",
    }


def test_a_page_that_asks_for_what_is_not_there_is_told_so_by_the_answer(server: Server) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}

    preflight = fetch(f"{server.api}/nothing", method="OPTIONS", headers=asked)
    answer = fetch(f"{server.api}/nothing", {}, headers=asked)

    assert (preflight[0], answer[0]) == (204, 404)
    for _, headers, _ in (preflight, answer):
        assert headers["access-control-allow-origin"] == "*"


def test_a_preflight_needs_no_key(server: Server) -> None:
    asked = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }

    got, headers, _ = fetch(f"{server.api}/chat/completions", method="OPTIONS", headers=asked)

    assert got == 200
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "authorization,content-type"
    assert "x-job-id" in headers["access-control-expose-headers"]
