"""Providers that are tables of the catalogue: each fact, as the server sees it."""

from typing import Any

import pytest

from config.catalog.provider import Provider
from config.settings import ProviderAccess, settings
from models.errors import UnsupportedParameter
from net.call import Call
from providers import declared
from providers.declared import Declared
from tests.providers.requests_and_routes import chat, route
from tests.upstream import Upstream

SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def provider(**facts: Any) -> Declared:
    return declared.provider(Provider(name="acme", base_url="https://api.acme.example", **facts))


@pytest.fixture
def acme(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """The server that Acme's address leads to."""
    access = ProviderAccess(f"{upstream.url}/acme", [""])
    monkeypatch.setitem(settings._providers, "acme", access)
    return upstream


def asked(acme: Upstream, key: str = "sk-acme", *, facts: Any = None, **parameters: Any) -> Any:
    """Ask for an answer, and return what the server was asked."""
    way = route("acme", model="org/model 1")
    answer = provider(**(facts or {})).complete(chat(**parameters), way, None, key, Call(20))
    assert answer["choices"][0]["message"]["content"]
    (call,) = acme.calls()
    return call


def test_nothing_but_an_address_is_openais_protocol(acme: Upstream) -> None:
    call = asked(acme, max_tokens=5)

    assert call["path"] == "/acme/chat/completions"
    assert call["headers"]["authorization"] == "Bearer sk-acme"
    assert (call["body"]["model"], call["body"]["max_tokens"]) == ("org/model 1", 5)


def test_where_and_how_it_is_asked_are_facts(acme: Upstream) -> None:
    facts = {
        "path": "/deployments/{model}/chat/completions",
        "query": {"api-version": "2024-10-21", "a b": "&"},
        "headers": {"X-Client": "likedo"},
        "key_header": "api-key",
        "output_limit": "max_completion_tokens",
    }

    call = asked(acme, facts=facts, max_tokens=5)

    path, _, query = call["path"].partition("?")
    assert path == "/acme/deployments/org%2Fmodel%201/chat/completions"
    assert query == "api-version=2024-10-21&a+b=%26"
    assert (call["headers"]["api-key"], call["headers"]["x-client"]) == ("sk-acme", "likedo")
    assert "authorization" not in call["headers"]
    assert call["body"]["max_completion_tokens"] == 5
    assert "max_tokens" not in call["body"]


@pytest.mark.parametrize("facts", [{}, {"key_header": "api-key"}])
def test_without_a_key_no_header_holds_one(acme: Upstream, facts: dict[str, Any]) -> None:
    call = asked(acme, "", facts=facts)

    assert not {"authorization", "api-key"} & call["headers"].keys()


def test_what_it_drops_is_left_out_in_silence(acme: Upstream) -> None:
    call = asked(acme, facts={"drops": frozenset({"metadata"})}, metadata={"a": "b"}, user="me")

    assert "metadata" not in call["body"]
    assert call["body"]["user"] == "me"


def test_fields_that_it_does_not_know_are_taken_out_of_messages(acme: Upstream) -> None:
    said = {"role": "assistant", "content": "Hi", "refusal": None, "reasoning_content": "Hm"}
    messages = [{"role": "user", "content": "Hi"}, said, {"role": "user", "content": "And?"}]

    call = asked(acme, facts={"foreign_fields": frozenset({"refusal"})}, messages=messages)

    sent = call["body"]["messages"][1]
    assert "refusal" not in sent
    assert sent["reasoning_content"] == "Hm"


def test_what_all_its_models_take_needs_no_word_in_their_tables() -> None:
    facts = {"supports": frozenset({"seed", "n"}), "unsupported": frozenset({"n", "logit_bias"})}
    acme, way = provider(**facts), route("acme", frozenset({"sampling"}))

    acme.check(chat(seed=1, temperature=0.2), way)
    for wish in ({"n": 2}, {"logit_bias": {"1": 5}}, {"stop": "x"}):
        with pytest.raises(UnsupportedParameter, match=f"'{next(iter(wish))}'"):
            acme.check(chat(**wish), way)


def test_a_schema_is_put_into_the_prompt_where_it_is_emulated(acme: Upstream) -> None:
    facts = {"emulates": frozenset({"json_schema"})}
    provider(**facts).check(chat(response_format=SCHEMA), route("acme", frozenset({"sampling"})))

    body = asked(acme, facts=facts, response_format=SCHEMA)["body"]

    assert body["response_format"] == {"type": "json_object"}
    system, user = body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert '{"type":"object"}' in system["content"]


def test_a_schema_is_sent_as_it_is_where_it_is_supported(acme: Upstream) -> None:
    facts = {"supports": frozenset({"json_schema"})}

    body = asked(acme, facts=facts, response_format=SCHEMA)["body"]

    assert body["response_format"] == SCHEMA
    assert len(body["messages"]) == 1
