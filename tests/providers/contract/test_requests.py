"""What holds for every provider that chats, whoever it is; a new one is covered by its line."""

import copy
import json
from contextlib import closing
from typing import Any

import orjson
import pytest

from config.providers import SANDBOX
from models.chat import ChatRequest
from models.chat_parameters import OWN_PARAMETERS
from models.errors import (
    InvalidRequest,
    JobCancelled,
    LikeDoError,
    ModelGone,
    ProviderBusy,
    ProviderFailed,
    ProviderRefusedUs,
    ProviderTimeout,
    UnsupportedParameter,
)
from net.call import Call
from providers import by_name
from providers.base import Provider
from providers.openai_compatible import OpenAICompatible
from providers.wire.chunks import Assembly
from tests.providers.requests_and_routes import HELLO, chat, route
from tests.upstream import Upstream, gemini_said, said

EVERYONE = [pytest.param(provider, id=name) for name, provider in by_name.items()]
#: Those that call a server.
REMOTE = [pytest.param(provider, id=name) for name, provider in by_name.items() if name != SANDBOX]
#: Those whose server speaks OpenAI's protocol.
SPEAKERS = [p for p in REMOTE if isinstance(p.values[0], OpenAICompatible)]

KEY = "sk-proj-0123456789abcdefABCDEF"

every_provider = pytest.mark.parametrize("provider", EVERYONE)
every_remote_provider = pytest.mark.parametrize("provider", REMOTE)
every_speaker = pytest.mark.parametrize("provider", SPEAKERS)


def asked(provider: Provider, request: ChatRequest | None = None, **options: Any) -> Any:
    call = options.pop("call", None) or Call(20)
    way = options.pop("way", None) or route(provider.name)
    limit = options.pop("max_tokens", None)
    return request or chat(), way, limit, KEY, call


def ask(provider: Provider, request: ChatRequest | None = None, **options: Any) -> dict[str, Any]:
    return provider.complete(*asked(provider, request, **options))


def stream(
    provider: Provider, request: ChatRequest | None = None, **options: Any
) -> list[dict[str, Any]]:
    return list(provider.stream(*asked(provider, request, **options)))


def said_by(provider: Provider, text: str, *, at_the_end: bool = False) -> str:
    """Return an event with a `text`, in the words of the provider's server."""
    if provider.name == "gemini":
        return json.dumps(gemini_said(text, "STOP" if at_the_end else None))
    return said("stop" if at_the_end else None, content=text)


#: Both ways to ask, where the same holds for both.
both_ways = pytest.mark.parametrize("way_to_ask", [ask, stream])


def refusal(
    provider: Provider, upstream: Upstream, step: dict[str, Any], way_to_ask: Any = ask
) -> LikeDoError:
    upstream.script(default=step)
    with pytest.raises(LikeDoError) as raised:
        way_to_ask(provider)
    return raised.value


@every_provider
def test_an_answer_is_openais_object(provider: Provider, upstream: Upstream) -> None:
    answer = ask(provider)

    assert answer["object"] == "chat.completion"
    assert answer["id"]
    assert isinstance(answer["created"], int)
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@both_ways
@every_provider
def test_a_request_stays_as_it_was(provider: Provider, upstream: Upstream, way_to_ask: Any) -> None:
    request = chat(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "Hello!"},
        ],
        stop=["x"],
        background=True,
        response_format={"type": "json_object"},
    )
    before = copy.deepcopy(request)

    way_to_ask(provider, request)

    assert request == before


@every_provider
def test_what_asks_for_nothing_is_never_refused(provider: Provider) -> None:
    request = chat(
        temperature=0.7,
        top_p=1,
        n=1,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        logprobs=False,
        tool_choice="auto",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        user="someone",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        max_tokens=5,
        background=True,
        fallbacks=["another"],
        on_disconnect="finish",
    )

    provider.check(request, route(provider.name, frozenset({"none-of-these"}), reasoning=True))


@every_provider
def test_openais_default_temperature_is_never_refused(provider: Provider) -> None:
    provider.check(chat(temperature=1), route(provider.name, frozenset({"tools"})))


@both_ways
@every_provider
def test_an_aborted_call_raises_its_reason(
    provider: Provider, upstream: Upstream, way_to_ask: Any
) -> None:
    reason = JobCancelled("The job was cancelled.")
    call = Call(20)
    call.abort(reason)

    with pytest.raises(JobCancelled) as raised:
        way_to_ask(provider, call=call)

    assert raised.value is reason


@both_ways
@every_provider
def test_a_call_past_its_deadline_times_out(
    provider: Provider, upstream: Upstream, way_to_ask: Any
) -> None:
    with pytest.raises(ProviderTimeout):
        way_to_ask(provider, call=Call(0))


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


@every_speaker
def test_our_own_parameters_never_go_upstream(provider: Provider, upstream: Upstream) -> None:
    own = {
        "provider": provider.name,
        "background": True,
        "fallbacks": ["b"],
        "webhook_url": "https://example.com",
        "on_disconnect": "finish",
        "key": "secret",
    }
    assert own.keys() == OWN_PARAMETERS

    ask(provider, ChatRequest(HELLO | own | {"stream": True, "stream_options": {}}))

    sent = upstream.calls()[0]["body"]
    assert sent.keys().isdisjoint(OWN_PARAMETERS | {"stream", "stream_options"})


@every_speaker
def test_a_parameter_nobody_knows_goes_as_it_came(provider: Provider, upstream: Upstream) -> None:
    ask(provider, chat(brand_new={"a": [1, None]}))

    assert upstream.calls()[0]["body"]["brand_new"] == {"a": [1, None]}


@every_speaker
def test_the_model_is_the_routes(provider: Provider, upstream: Upstream) -> None:
    ask(provider, way=route(provider.name, model="vendor/model"))

    assert upstream.calls()[0]["body"]["model"] == "vendor/model"


@every_speaker
def test_what_the_route_adds_gives_way_to_the_caller(
    provider: Provider, upstream: Upstream
) -> None:
    way = route(provider.name, verbosity="low", top_k=5)

    ask(provider, chat(verbosity="high"), way=way)

    sent = upstream.calls()[0]["body"]
    assert (sent["verbosity"], sent["top_k"]) == ("high", 5)


@every_speaker
def test_the_limit_to_send_overrides_the_callers(provider: Provider, upstream: Upstream) -> None:
    ask(provider, chat(max_completion_tokens=900), max_tokens=300)

    sent = upstream.calls()[0]["body"]
    assert sent["max_tokens"] == 300
    assert "max_completion_tokens" not in sent


@every_speaker
def test_without_a_limit_none_is_sent(provider: Provider, upstream: Upstream) -> None:
    ask(provider)

    assert upstream.calls()[0]["body"].keys().isdisjoint({"max_tokens", "max_completion_tokens"})


@every_speaker
def test_the_temperature_is_ours_where_the_caller_gave_none(
    provider: Provider, upstream: Upstream
) -> None:
    ask(provider)
    ask(provider, chat(temperature=0))
    ask(provider, way=route(provider.name, frozenset({"tools"}), reasoning=True))

    sent = [call["body"].get("temperature") for call in upstream.calls()]
    assert sent == [0.7, 0, None]


#: Parameters that a model may lack.
OPTIONAL: dict[str, Any] = {
    "temperature": 0.2,
    "top_p": 0.5,
    "presence_penalty": 1,
    "frequency_penalty": -1,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "stop": "END",
    "seed": 1,
    "n": 2,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "functions": [{"name": "f"}],
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
}


@every_speaker
def test_what_a_model_lacks_is_refused_by_name(
    provider: Provider, subtests: pytest.Subtests
) -> None:
    lacking = route(provider.name, frozenset({"x"}))

    for parameter, value in OPTIONAL.items():
        with subtests.test(parameter):
            with pytest.raises(UnsupportedParameter) as refused:
                provider.check(chat(**{parameter: value}), lacking)

            assert refused.value.param == parameter
            assert parameter in refused.value.message


@every_speaker
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_data": ""}},
    ],
    ids=lambda part: part["type"],
)
def test_a_part_that_a_model_cannot_take_is_refused_by_place(
    provider: Provider, part: dict[str, Any]
) -> None:
    text = {"type": "text", "text": "What is it?"}
    request = chat(
        messages=[
            {"role": "system", "content": "Look."},
            {"role": "user", "content": [text, part]},
        ]
    )

    with pytest.raises(UnsupportedParameter) as refused:
        provider.check(request, route(provider.name, frozenset({"x"})))

    assert refused.value.param == "messages[1].content[1]"


@every_speaker
def test_a_successor_without_a_temperature_takes_one_all_the_same(
    provider: Provider, upstream: Upstream
) -> None:
    """An alias was documented with a temperature; the model in its place has none."""
    way = route(provider.name, frozenset({"x"}), reasoning=True, reasoning_effort="none")
    request = chat(temperature=0.2, max_tokens=20)

    provider.check(request, way)
    ask(provider, request, way=way)

    assert "temperature" not in upstream.calls()[0]["body"]


# ---- Streams


@every_provider
def test_a_stream_is_openais_chunks(provider: Provider, upstream: Upstream) -> None:
    *said, finish, usage = stream(provider)

    chunks = [*said, finish, usage]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [choice for chunk in said for choice in chunk["choices"]]
    assert [choice["delta"].get("role") for choice in choices[:2]] == ["assistant", None]
    assert not any(choice["finish_reason"] for choice in choices)
    assert finish["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    ]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0


@every_provider
def test_a_stream_says_what_a_whole_answer_does(provider: Provider, upstream: Upstream) -> None:
    assembly = Assembly()

    for chunk in stream(provider):
        assembly.add(chunk)

    streamed, whole = assembly.completion(), ask(provider)
    for answer in (streamed, whole):
        answer["choices"][0]["message"].pop("refusal", None)
        # Gemini does not say when, so it is now, and the clock may have moved on.
        del answer["created"]
    assert streamed == whole


@every_provider
def test_nothing_is_asked_before_the_first_chunk_is(provider: Provider, upstream: Upstream) -> None:
    with closing(provider.stream(*asked(provider))):
        pass

    assert upstream.counts()["received"] == 0


@every_provider
def test_an_abort_between_chunks_ends_a_stream(provider: Provider, upstream: Upstream) -> None:
    upstream.script({"events": [said_by(provider, "Hi"), said_by(provider, "!")], "gap": 60})
    reason, call = JobCancelled("The job was cancelled."), Call(60)
    chunks = provider.stream(*asked(provider, call=call))
    next(chunks)

    call.abort(reason)

    with pytest.raises(JobCancelled) as raised:
        list(chunks)
    assert raised.value is reason


@every_remote_provider
def test_a_stream_that_is_closed_early_is_hung_up_on(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.script({"events": [said_by(provider, "Hi"), said_by(provider, "!")], "gap": 60})

    with closing(provider.stream(*asked(provider))) as chunks:
        next(chunks)

    upstream.wait(aborted=1)


BROKEN_STREAMS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["[DONE]"], {}),
    (["Hi"], {}),
    (["Hi", "[DONE]"], {}),
    (["Hi", "{"], {}),
    (["Hi", "the end"], {"cut": 120}),
    (["Hi", '{"error": {"message": "Sorry."}}', "[DONE]"], {}),
]


@every_remote_provider
def test_a_stream_that_breaks_off_is_a_failure(
    provider: Provider, upstream: Upstream, subtests: pytest.Subtests
) -> None:
    texts = {"Hi": said_by(provider, "Hi"), "the end": said_by(provider, "!", at_the_end=True)}

    for events, more in BROKEN_STREAMS:
        step = {"events": [texts.get(event, event) for event in events]} | more

        with subtests.test(str((events, more))):
            assert type(refusal(provider, upstream, step, stream)) is ProviderFailed


@every_speaker
def test_a_choice_that_broke_off_is_a_failure(provider: Provider, upstream: Upstream) -> None:
    step = {"events": [said("error", content="Hi"), "[DONE]"]}

    assert type(refusal(provider, upstream, step, stream)) is ProviderFailed


@every_remote_provider
def test_a_provider_that_does_not_stream_is_heard_all_the_same(
    provider: Provider, upstream: Upstream
) -> None:
    upstream.script({})

    first, finish, usage = stream(provider)

    assert first["choices"][0]["delta"]["content"] == "Hello from upstream."
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["total_tokens"] == 15


@every_speaker
def test_usage_is_asked_for_whatever_the_caller_wishes(
    provider: Provider, upstream: Upstream
) -> None:
    options = {"include_usage": False, "include_obfuscation": True}

    stream(provider, chat(stream=True, stream_options=options))
    stream(provider)

    for call in upstream.calls():
        assert call["body"]["stream"] is True
        assert call["body"]["stream_options"] == {"include_usage": True}
