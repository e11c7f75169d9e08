"""Malformed requests: none is a 5xx, none answers HTML, none is charged."""

import json
from typing import Any

import pytest

from tests.conftest import ON_SQLITE, Server
from tests.stack import Account, fetch

pytestmark = ON_SQLITE  # None of them gets as far as the database.

HI = [{"role": "user", "content": "hi"}]
OK = {"model": "gpt-4", "messages": HI}


def with_message(**message: Any) -> dict[str, Any]:
    return {"model": "gpt-4", "messages": [message]}


def with_part(part: Any) -> dict[str, Any]:
    return with_message(role="user", content=[part])


def with_tool(**function: Any) -> dict[str, Any]:
    return OK | {"tools": [{"type": "function", "function": function}]}


INVALID, MISSING = "invalid_parameter", "missing_required_parameter"
UNSUPPORTED, UNKNOWN = "unsupported_parameter", "model_not_found"

#: (body, status, code, param): a body is JSON to be, or the bytes themselves.
CASES: list[tuple[Any, int, str, str | None]] = [
    (b"", 400, "invalid_json", None),
    (b"   ", 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
    (b"not json", 400, "invalid_json", None),
    (b'{"model": "gpt-4",}', 400, "invalid_json", None),
    (b"\xff\xfe\x00", 400, "invalid_json", None),
    (b'{"model": NaN}', 400, "invalid_json", None),
    (b'{"model": "\\ud800"}', 400, "invalid_json", None),
    (b"[" * 5000, 400, "invalid_json", None),
    ([], 400, INVALID, None),
    ("gpt-4", 400, INVALID, None),
    (None, 400, INVALID, None),
    (7, 400, INVALID, None),
    ({}, 400, MISSING, "model"),
    ({"messages": HI}, 400, MISSING, "model"),
    ({"model": "gpt-4"}, 400, MISSING, "messages"),
    ({"model": None, "messages": HI}, 400, INVALID, "model"),
    ({"model": 4, "messages": HI}, 400, INVALID, "model"),
    ({"model": "", "messages": HI}, 400, INVALID, "model"),
    ({"model": "no-such-model", "messages": HI}, 404, UNKNOWN, "model"),
    ({"model": "a/b/../c d", "messages": HI}, 404, UNKNOWN, "model"),
    ({"model": "gpt-4\u0000", "messages": HI}, 404, UNKNOWN, "model"),
    ({"model": "m" * 300, "messages": HI}, 400, INVALID, "model"),
    ({"model": "gpt-4", "messages": []}, 400, INVALID, "messages"),
    ({"model": "gpt-4", "messages": "hi"}, 400, INVALID, "messages"),
    ({"model": "gpt-4", "messages": {}}, 400, INVALID, "messages"),
    ({"model": "gpt-4", "messages": ["hi"]}, 400, INVALID, "messages[0]"),
    (with_message(content="hi"), 400, MISSING, "messages[0].role"),
    (with_message(role="wizard", content="hi"), 400, INVALID, "messages[0].role"),
    (with_message(role=1, content="hi"), 400, INVALID, "messages[0].role"),
    (with_message(role="user"), 400, MISSING, "messages[0].content"),
    (with_message(role="user", content=None), 400, INVALID, "messages[0].content"),
    (with_message(role="user", content=4), 400, INVALID, "messages[0].content"),
    (with_message(role="user", content=[]), 400, INVALID, "messages[0].content"),
    (with_message(role="assistant", content=None), 400, INVALID, "messages[0]"),
    (with_message(role="tool", content="3"), 400, MISSING, "messages[0].tool_call_id"),
    (with_part({"type": "hologram"}), 400, INVALID, "messages[0].content[0].type"),
    (with_part({"text": "hi"}), 400, MISSING, "messages[0].content[0].type"),
    (with_part({"type": "text"}), 400, MISSING, "messages[0].content[0].text"),
    (with_part("hi"), 400, INVALID, "messages[0].content[0]"),
    (
        with_part({"type": "image_url", "image_url": {"url": "ftp://pictures.example/a.png"}}),
        400,
        INVALID,
        "messages[0].content[0].image_url.url",
    ),
    (
        with_part({"type": "image_url", "image_url": "https://pictures.example/a.png"}),
        400,
        INVALID,
        "messages[0].content[0].image_url",
    ),
    (b'{"a": %s}' % (b"[" * 64 + b"]" * 64), 400, INVALID, None),
    (OK | {"a": [0] * 200_001}, 400, INVALID, None),
    (OK | {"a": [[]] * 100_001}, 400, INVALID, None),
    (OK | {"messages": HI * 20_001}, 400, INVALID, "messages"),
    (OK | {"temperature": -0.1}, 400, INVALID, "temperature"),
    (OK | {"temperature": 2.1}, 400, INVALID, "temperature"),
    (OK | {"temperature": "0.7"}, 400, INVALID, "temperature"),
    (OK | {"temperature": True}, 400, INVALID, "temperature"),
    (OK | {"temperature": []}, 400, INVALID, "temperature"),
    (OK | {"max_tokens": 0}, 400, INVALID, "max_tokens"),
    (OK | {"max_tokens": -5}, 400, INVALID, "max_tokens"),
    (OK | {"max_tokens": 32_001}, 400, INVALID, "max_tokens"),
    (OK | {"max_tokens": 1.5}, 400, INVALID, "max_tokens"),
    (OK | {"max_tokens": "500"}, 400, INVALID, "max_tokens"),
    (OK | {"max_completion_tokens": 32_001}, 400, INVALID, "max_completion_tokens"),
    (OK | {"max_tokens": 5, "max_completion_tokens": 6}, 400, INVALID, "max_tokens"),
    (OK | {"top_p": 1.1}, 400, INVALID, "top_p"),
    (OK | {"n": 0}, 400, INVALID, "n"),
    (OK | {"n": 129}, 400, INVALID, "n"),
    (OK | {"stop": ["a", "b", "c", "d", "e"]}, 400, INVALID, "stop"),
    (OK | {"stop": 7}, 400, INVALID, "stop"),
    (OK | {"presence_penalty": 3}, 400, INVALID, "presence_penalty"),
    (OK | {"frequency_penalty": -3}, 400, INVALID, "frequency_penalty"),
    (OK | {"logit_bias": {"50256": 101}}, 400, INVALID, "logit_bias.50256"),
    (OK | {"logit_bias": []}, 400, INVALID, "logit_bias"),
    (OK | {"logprobs": "yes"}, 400, INVALID, "logprobs"),
    (OK | {"logprobs": True, "top_logprobs": 21}, 400, INVALID, "top_logprobs"),
    (OK | {"top_logprobs": 2}, 400, INVALID, "top_logprobs"),
    (OK | {"seed": 1.5}, 400, INVALID, "seed"),
    (OK | {"seed": 10**30}, 400, INVALID, "seed"),
    (OK | {"user": 7}, 400, INVALID, "user"),
    (OK | {"tools": []}, 400, INVALID, "tools"),
    (OK | {"tools": [{"type": "function"}]}, 400, MISSING, "tools[0].function"),
    (with_tool(), 400, MISSING, "tools[0].function.name"),
    (with_tool(name="two words"), 400, INVALID, "tools[0].function.name"),
    (with_tool(name="f", parameters="none"), 400, INVALID, "tools[0].function.parameters"),
    (OK | {"tools": [{"type": "lever", "lever": {}}]}, 400, INVALID, "tools[0].type"),
    (OK | {"tools": [{"type": "custom"}]}, 400, MISSING, "tools[0].custom"),
    (OK | {"tool_choice": "perhaps"}, 400, INVALID, "tool_choice"),
    (OK | {"tool_choice": "required"}, 400, INVALID, "tool_choice"),
    (OK | {"response_format": "json"}, 400, INVALID, "response_format"),
    (OK | {"response_format": {"type": "xml"}}, 400, INVALID, "response_format.type"),
    (
        OK | {"response_format": {"type": "json_schema"}},
        400,
        MISSING,
        "response_format.json_schema",
    ),
    (OK | {"stream": "yes"}, 400, INVALID, "stream"),
    (OK | {"stream_options": {"include_usage": True}}, 400, INVALID, "stream_options"),
    (OK | {"reasoning_effort": "utmost"}, 400, INVALID, "reasoning_effort"),
    (OK | {"metadata": {"a": 1}}, 400, INVALID, "metadata.a"),
    (OK | {"store": "no"}, 400, INVALID, "store"),
    (OK | {"service_tier": 1}, 400, INVALID, "service_tier"),
    (OK | {"service_tier": "priority"}, 400, UNSUPPORTED, "service_tier"),
    (OK | {"models": ["openai/gpt-5-pro"]}, 400, UNSUPPORTED, "models"),
    (OK | {"route": "fallback"}, 400, UNSUPPORTED, "route"),
    (OK | {"plugins": [{"id": "web"}]}, 400, UNSUPPORTED, "plugins"),
    (OK | {"preset": "mine"}, 400, UNSUPPORTED, "preset"),
    (OK | {"web_search_options": {}}, 400, UNSUPPORTED, "web_search_options"),
    (OK | {"modalities": ["text", "audio"]}, 400, UNSUPPORTED, "modalities"),
    (OK | {"modalities": "audio"}, 400, UNSUPPORTED, "modalities"),
    (OK | {"model": "openrouter/auto"}, 400, UNSUPPORTED, "model"),
    (OK | {"model": "@preset/mine"}, 400, UNSUPPORTED, "model"),
    (OK | {"model": "acme/large:online"}, 400, UNSUPPORTED, "model"),
    (OK | {"fallbacks": ["gpt-4.1", "acme/a:nitro"]}, 400, UNSUPPORTED, "fallbacks[1]"),
    (
        OK | {"model": "acme/large", "provider": {"max_price": {"prompt": "much"}}},
        400,
        INVALID,
        "provider.max_price.prompt",
    ),
    (
        with_part({"type": "file", "file": {"file_id": "file-1"}}),
        400,
        UNSUPPORTED,
        "messages[0].content[0].file",
    ),
    (OK | {"provider": "nobody"}, 400, INVALID, "provider"),
    (OK | {"provider": 1}, 400, INVALID, "provider"),
    (OK | {"provider": "deepseek"}, 400, INVALID, "provider"),
    (OK | {"provider": {"order": ["x"]}, "model": "gpt-4.1"}, 400, UNSUPPORTED, "provider"),
    (OK | {"on_disconnect": "explode"}, 400, INVALID, "on_disconnect"),
    (OK | {"fallbacks": "gpt-4"}, 400, INVALID, "fallbacks"),
    (
        {"model": "deepseek-chat", "messages": HI, "seed": 7, "provider": "deepseek"},
        400,
        UNSUPPORTED,
        "seed",
    ),
]  # fmt: skip


def test_a_malformed_chat_is_refused_by_name_and_costs_nothing(
    server: Server, account: Account, subtests: pytest.Subtests
) -> None:
    for body, status, code, param in CASES:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        with subtests.test(raw[:200].decode("latin-1")):
            got, headers, answer = fetch(f"{server.api}/chat/completions", raw, key=account.key)

            error = json.loads(answer)["error"]
            assert (got, error["code"], error["param"]) == (status, code, param)
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error"
            assert headers["content-type"] == "application/json"
            assert headers["x-should-retry"] == "false"

    assert account.standing() == (10_000, 0)
    assert account.jobs() == []


#: (path, method, status, code)
NOT_THERE = [
    ("/api/v1/ai/chat/completions", "GET", 405, "method_not_allowed"),
    ("/api/v1/ai/chat/completions", "PUT", 405, "method_not_allowed"),
    ("/v1/models", "DELETE", 405, "method_not_allowed"),
    ("/api/v1/ai/nothing-here", "GET", 404, "not_found"),
    ("/api/v1/ai/nothing-here", "POST", 404, "not_found"),
    ("/v1/chat", "POST", 404, "not_found"),
    ("/nothing-here", "GET", 404, "not_found"),
    ("/api/v1/ai/jobs/job_of_nobody", "GET", 404, "not_found"),
    ("/api/v1/ai/models/no-such-model", "GET", 404, "model_not_found"),
    ("/healthz", "POST", 405, "method_not_allowed"),
]


def test_an_unknown_path_or_method_is_answered_in_the_error_envelope(
    server: Server, account: Account, subtests: pytest.Subtests
) -> None:
    for path, method, status, code in NOT_THERE:
        body = b"{}" if method in ("POST", "PUT") else None

        with subtests.test(f"{method} {path}"):
            got, headers, answer = fetch(server.url + path, body, key=account.key, method=method)

            assert (got, json.loads(answer)["error"]["code"]) == (status, code)
            assert "x-request-id" in headers
            assert ("allow" in headers) == (status == 405)


#: Headers without a key that anybody has.
NO_KEYS: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer lk-nobody"},
    {"Authorization": "Basic bGs6bGs="},
    {"Authorization": "lk-without-a-scheme"},
    {"Authorization": "Bearer kl\u00fc\u00dfel"},
]


def test_a_call_without_a_valid_key_is_the_401_that_clients_know(
    server: Server, subtests: pytest.Subtests
) -> None:
    for headers in NO_KEYS:
        with subtests.test(str(headers)):
            got, _, answer = fetch(f"{server.api}/chat/completions", OK, headers=headers)

            error = json.loads(answer)["error"]
            assert (got, error["code"]) == (401, "invalid_api_key")
            assert error["message"].startswith("Incorrect API key provided")


def test_a_good_key_in_the_query_does_not_make_up_for_a_bad_one_in_the_header(
    server: Server, account: Account
) -> None:
    url = f"{server.api}/credits?key={account.key}"

    assert fetch(url)[0] == 200
    assert fetch(url, headers={"Authorization": "Bearer lk-nobody"})[0] == 401


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_a_body_of_another_type_is_a_415(server: Server, account: Account, kind: str) -> None:
    got, _, answer = fetch(
        f"{server.api}/chat/completions", OK, key=account.key, headers={"Content-Type": kind}
    )

    assert (got, json.loads(answer)["error"]["code"]) == (415, "unsupported_media_type")


def test_a_body_that_is_declared_too_large_is_refused_before_the_key_is_looked_at(
    server: Server, account: Account
) -> None:
    body = b'{"model": "' + b"x" * (20 * 1024 * 1024)

    got, _, answer = fetch(f"{server.api}/chat/completions", body, key="lk-nobody")

    assert (got, json.loads(answer)["error"]["code"]) == (413, "request_too_large")


def test_what_is_in_a_string_does_not_count_however_much_it_is(
    server: Server, account: Account
) -> None:
    table = 'name, "price", [ids]\n' * 300_000

    got, _, answer = fetch(
        f"{server.api}/estimate", with_message(role="user", content=table), key=account.key
    )
    refused, _, reason = fetch(
        f"{server.api}/estimate", OK | {"a": [[]] * 100_001}, key=account.key
    )

    assert (got, json.loads(answer)["object"]) == (200, "estimate")
    assert (refused, "200,000" in json.loads(reason)["error"]["message"]) == (400, True)
