"""A provider that fails, as callers see it: who answered, after how many attempts, for how much."""

import json
from typing import Any

import pytest

from config.catalog.load import catalog
from config.providers import BASE_URLS
from config.settings import settings
from tests.callers import HELLO, Callers
from tests.conftest import ON_SQLITE, ONE_DATABASE, Server
from tests.events import STREAMED, follow, stream, text_of, trail, value
from tests.stack import Account, Stack, fetch, wait_until
from tests.upstream import Upstream, said

GPT_4 = HELLO | {"model": "gpt-4"}
BROKEN = {"status": 500, "json": {"error": {"message": "Broken."}}}
BUSY = {"status": 429, "json": {"error": {"message": "Too many."}}}
#: What makes a model in the catalogue cost a thousand times as much for its prompt.
DEAR = 'owned_by = "deepseek"\nprice = { prompt = 1000, completion = 30 }\nroutes = ["deepseek:deep'
OWNED = 'owned_by = "deepseek"\nroutes = ["deepseek:deep'


def ask(server: Server, account: Account, body: Any) -> tuple[int, dict[str, str], Any]:
    status, headers, content = fetch(f"{server.api}/chat/completions", body, key=account.key)
    return status, headers, json.loads(content)


def source(headers: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    names = ("x-provider", "x-upstream-model", "x-attempts")
    return tuple(headers.get(name) for name in names)  # type: ignore[return-value]  # three


def test_headers_say_who_answered(server: Server, account: Account, upstream: Upstream) -> None:
    status, headers, body = ask(server, account, GPT_4)

    assert status == 200
    assert source(headers) == ("openai", "gpt-4.1", "1")
    assert body["model"] == "gpt-4"


def test_a_provider_that_fails_is_made_up_for_by_another(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(*[BROKEN | {"match": "/openai/"}] * 4)

    status, headers, body = ask(server, account, GPT_4)

    assert status == 200
    assert source(headers) == ("openrouter", "openai/gpt-4.1", "5")
    assert body["model"] == "gpt-4"
    assert account.standing() == (9_999, 0)
    job = json.loads(fetch(f"{server.api}/jobs/{headers['x-job-id']}", key=account.key)[2])
    assert (job["provider"], job["attempts"]) == ("openrouter", 5)


def test_the_trail_holds_each_attempt(server: Server, account: Account, upstream: Upstream) -> None:
    upstream.script(BROKEN, BUSY)
    _, headers, _ = ask(server, account, GPT_4)

    told = trail(follow(server.url, account.key, headers["x-job-id"]).events())

    attempts = [facts for name, facts in told if name == "job.attempt"]
    assert [(a["attempt"], a["provider"], a["upstream_model"], a["error"]) for a in attempts] == [
        (1, "openai", "gpt-4.1", "provider_error"),
        (2, "openai", "gpt-4.1", "overloaded"),
        (3, "openai", "gpt-6-sol", None),
    ]
    assert all(a["seconds"] >= 0 and a["at"] > 1e9 for a in attempts)


def test_an_attempt_that_failed_is_told_while_the_next_one_runs(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"status": 504, "json": {}}, {"delay": 60})
    callers = Callers()
    callers.call(server.url, account.key, body=GPT_4)
    upstream.wait(received=2)
    (job,) = account.jobs()

    reader = follow(server.url, account.key, job["id"])
    told = [trail([event])[0] for event in reader.events(most=3)]
    reader.close()
    status = account.jobs()[0]["status"]
    fetch(f"{server.api}/jobs/{job['id']}/cancel", key=account.key, method="POST")

    assert [name for name, _ in told] == ["job.queued", "job.started", "job.attempt"]
    assert (told[-1][1]["error"], status) == ("provider_timeout", "in_progress")
    assert callers.replies()[0][0] == 409


def test_the_callers_fallbacks_are_asked_when_all_else_fails(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(*[BROKEN | {"match": "/openai/"}] * 2)
    body = HELLO | {"model": "gpt-4o", "fallbacks": ["deepseek-v4-pro"]}

    status, headers, answer = ask(server, account, body)

    assert status == 200
    assert source(headers) == ("deepseek", "deepseek-v4-pro", "3")
    assert answer["model"] == "gpt-4o"


@ON_SQLITE
@pytest.mark.parametrize(
    ("fallbacks", "status", "param"),
    [
        (["no-such-model"], 404, "fallbacks[0]"),
        (["gpt-4o", ""], 400, "fallbacks[1]"),
        ("gpt-4o", 400, "fallbacks"),
        (["gpt-4o"] * 11, 400, "fallbacks"),
    ],
)
def test_fallbacks_that_lead_nowhere_are_refused(
    server: Server, account: Account, fallbacks: Any, status: int, param: str
) -> None:
    got, _, body = ask(server, account, HELLO | {"fallbacks": fallbacks})

    assert (got, body["error"]["param"]) == (status, param)
    assert account.jobs() == []


def test_a_fallback_that_cannot_honour_the_request_is_refused(
    server: Server, account: Account
) -> None:
    body = HELLO | {"model": "gpt-4o", "seed": 1, "fallbacks": ["deepseek-v4-pro"]}

    status, _, answer = ask(server, account, body)

    assert (status, answer["error"]["code"]) == (400, "unsupported_parameter")
    assert (answer["error"]["param"], "fallbacks" in answer["error"]["message"]) == ("seed", True)


@ONE_DATABASE
def test_the_dearest_is_held_for_and_who_answered_is_paid(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    text = settings.catalog.read_text(encoding="utf-8")
    file = fresh_stack.folder / "catalog.toml"
    file.write_text(text.replace(OWNED + "seek-v4-pro", DEAR + "seek-v4-pro"), encoding="utf-8")
    web = fresh_stack.web(catalog=file)
    fresh_stack.worker(catalog=file)
    account = fresh_stack.account(credits=100)
    body = HELLO | {"model": "gpt-4o", "max_tokens": 100, "fallbacks": ["deepseek-v4-pro"]}
    upstream.script({}, *[BROKEN | {"match": "/openai/"}] * 2)

    def charge() -> tuple[int, Any]:
        reply = fetch(f"{web}/v1/chat/completions", body, key=account.key)
        return json.loads(reply[2])["credits_consumed"], account.jobs()[-1]["held"]

    cheap, dear = charge(), charge()

    # 10 tokens in and 5 out: 1 credit at the usual price; 10 and a part of one at the other's.
    assert (cheap[0], dear[0]) == (1, 11)
    assert cheap[1] == dear[1] > 11
    assert account.standing() == (100 - 12, 0)


# ---- Streams


def test_a_stream_that_has_not_begun_is_begun_elsewhere(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script(BROKEN, {"events": []}, {"status": 504, "json": {}})

    answer = stream(server.url, account.key, STREAMED | {"model": "gpt-4"})
    events = answer.events()

    assert answer.status == 200
    assert text_of(events) == "Hello from upstream."
    assert source(answer.headers) == ("openrouter", "openai/gpt-4.1", "4")
    assert account.standing() == (9_999, 0)


def test_a_stream_that_has_begun_is_not_begun_again(
    server: Server, account: Account, upstream: Upstream
) -> None:
    upstream.script({"events": [said(role="assistant", content="Hel"), said(content="lo")]})

    events = stream(server.url, account.key, STREAMED | {"model": "gpt-4"}).events()

    assert value(events[-1])["error"]["code"] == "provider_error"
    assert len(upstream.calls()) == 1
    assert account.standing() == (10_000, 0)


@pytest.fixture
def impatient(fresh_stack: Stack) -> tuple[str, Account]:
    """A service whose catalogue gives a stream little time, and one of its callers."""
    text = settings.catalog.read_text(encoding="utf-8")
    for name in ("thinking_seconds", "first_token_seconds", "between_tokens_seconds"):
        seconds = getattr(catalog.timeouts, name)
        text = text.replace(f"{name} = {seconds:g}", f"{name} = 0.5")
    file = fresh_stack.folder / "catalog.toml"
    file.write_text(text, encoding="utf-8")
    web = fresh_stack.web(catalog=file)
    fresh_stack.worker(catalog=file)
    return web, fresh_stack.account()


@ONE_DATABASE
def test_bytes_that_keep_a_connection_alive_are_no_token(
    impatient: tuple[str, Account], upstream: Upstream
) -> None:
    web, account = impatient
    upstream.script({"dribble": ": keep-alive\n\n", "gap": 0.05, "events": []})

    answer = stream(web, account.key, STREAMED | {"model": "gpt-4"})

    assert text_of(answer.events()) == "Hello from upstream."
    assert source(answer.headers) == ("openai", "gpt-6-sol", "2")


@ONE_DATABASE
def test_a_role_is_no_token_yet(impatient: tuple[str, Account], upstream: Upstream) -> None:
    web, account = impatient
    opening = said(role="assistant", content="")
    upstream.script({"events": [opening, said(content="late")], "gap": 60})

    events = stream(web, account.key, STREAMED | {"model": "gpt-4"}).events()

    assert value(events[-1])["error"]["code"] == "provider_timeout"


@ONE_DATABASE
def test_a_stream_that_falls_silent_is_given_up(
    impatient: tuple[str, Account], upstream: Upstream
) -> None:
    web, account = impatient
    words = [said(role="assistant", content="Hel"), said(content="lo")]
    upstream.script({"events": words, "gap": 60})

    events = stream(web, account.key, STREAMED | {"model": "gpt-4"}).events()

    assert value(events[-1])["error"]["code"] == "provider_timeout"
    assert account.standing() == (1000, 0)


# ---- Left alone


@ONE_DATABASE
def test_a_provider_that_keeps_failing_is_left_alone_and_used_again_when_it_is_well(
    fresh_stack: Stack, upstream: Upstream
) -> None:
    web = fresh_stack.web()
    fresh_stack.worker()
    account = fresh_stack.account()
    body = HELLO | {"model": "gpt-4o"}
    upstream.script(default=BROKEN)

    def once() -> tuple[int, dict[str, str], Any]:
        status, headers, content = fetch(f"{web}/v1/chat/completions", body, key=account.key)
        return status, headers, json.loads(content)

    for _ in range(10):
        once()
    before = upstream.counts()["received"]
    status, headers, answer = [once() for _ in range(10)][-1]

    assert upstream.counts()["received"] - before <= 3
    assert (status, answer["error"]["code"]) == (503, "no_provider")
    assert 1 <= int(headers["retry-after"]) <= 5
    assert headers["x-attempts"] == "0"
    assert account.standing() == (1000, 0)

    upstream.reset()
    wait_until(lambda: once()[0] == 200, "it is used again", seconds=30)
    assert once()[0] == 200


@ONE_DATABASE
def test_providers_health_is_for_operators(fresh_stack: Stack, upstream: Upstream) -> None:
    fresh_stack.settings["OPENAI_API_KEY"] = "sk-first-key,sk-second-key"
    web = fresh_stack.web(admin_token="let-me-in")
    fresh_stack.worker()
    account = fresh_stack.account()
    upstream.script({"status": 401, "json": {"error": {"message": "No."}}})
    fetch(f"{web}/v1/chat/completions", HELLO | {"model": "gpt-4o"}, key=account.key)

    url = f"{web}/readyz?verbose=1"
    status, _, body = fetch(url, headers={"Authorization": "Bearer let-me-in"})

    assert status == 200
    providers = {provider["name"]: provider for provider in json.loads(body)["providers"]}
    openai_ = providers["openai"]
    assert (openai_["state"], openai_["breaker"]) == ("degraded", "closed")
    assert sorted(key["state"] for key in openai_["keys"]) == ["closed", "open"]
    assert b"sk-" not in body
    assert providers["deepseek"]["state"] == "up"
    assert fetch(url)[0] == 401
    assert fetch(url, headers={"Authorization": "Bearer wrong"})[0] == 401
    assert json.loads(fetch(f"{web}/readyz")[2]) == {"status": "ok"}
    told = fresh_stack.run("providers", "--json")
    assert [provider["name"] for provider in told] == list(BASE_URLS)
    assert "sk-" not in json.dumps(told)
    table = fresh_stack.run("providers")
    assert "degraded" in table and "refused" in table and "sk-" not in table
