"""Whatever a vendor puts where, the chunks that come out are OpenAI's."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import LikeDoError, ProviderFailed
from providers.wire.chunks import Assembly
from tests.providers.wire.events import DONE, USAGE, deltas, event, read


def test_a_stream_of_openais_comes_out_as_it_is() -> None:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    head |= {"service_tier": "default", "system_fingerprint": "fp"}

    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    first = {"role": "assistant", "content": "", "refusal": None}
    whole = [
        head | {"choices": [choice(first)]},
        head | {"choices": [choice({"content": "Hi"})]},
        head | {"choices": [choice({}, "stop")]},
        head | {"choices": [], "usage": USAGE},
    ]

    assert read(*({"usage": None} | chunk for chunk in whole)) == whole


def test_vendors_keys_are_left_out() -> None:
    vendors = {"provider": "Acme", "obfuscation": "xyz", "usage": USAGE, "user_id": "u"}
    said = event({"role": "assistant", "content": "Hi", "prefix": 1}, native_finish_reason="x")

    first, *_ = read(said | vendors, event(**DONE))

    assert first.keys() == {"id", "object", "created", "choices"}
    assert first["choices"][0].keys() == {"index", "delta", "logprobs", "finish_reason"}
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Hi"}


def test_every_chunk_has_the_same_head_whatever_the_events_say() -> None:
    odd = event({"content": "!"}) | {"id": 7, "created": "now", "service_tier": None}
    end = event(**DONE) | {"id": "c2", "created": 9}

    said = read(event({"content": "Hi"}) | {"service_tier": "flex"}, odd, end)

    assert {(c["id"], c["object"], c["created"], c["service_tier"]) for c in said} == {
        ("c1", "chat.completion.chunk", 5, "flex")
    }


def test_an_id_is_made_up_where_there_is_none() -> None:
    bare = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}

    said = read(bare)

    assert len({chunk["id"] for chunk in said}) == 1
    assert said[0]["id"].startswith("chatcmpl-")
    assert isinstance(said[0]["created"], int)


# ---- What a choice says


def test_the_role_is_said_once() -> None:
    repeated = {"role": "assistant", "content": "Hi"}

    assert deltas(event(repeated), event(repeated)) == [repeated, {"content": "Hi"}]
    assert deltas(event({"content": "Hi"})) == [repeated]


def test_each_choice_has_a_role_and_a_reason_of_its_own() -> None:
    said = read(
        event({"content": "A"}),
        event({"content": "B"}, index=1),
        event(index=1, finish_reason="length"),
        event(**DONE),
    )

    found = [
        (c["index"], c["delta"], c["finish_reason"]) for chunk in said for c in chunk["choices"]
    ]
    assert found == [
        (0, {"role": "assistant", "content": "A"}, None),
        (1, {"role": "assistant", "content": "B"}, None),
        (0, {}, "stop"),
        (1, {}, "length"),
    ]


def test_deltas_that_say_nothing_are_left_out() -> None:
    nothing = [{"content": ""}, {"content": None, "reasoning": None, "reasoning_details": []}, {}]

    said = deltas(*map(event, nothing), event({"content": "Hi", "reasoning_content": ""}))

    assert said == [{"role": "assistant", "content": ""}, {"content": "Hi"}]


def test_reasoning_has_one_name() -> None:
    said = deltas(event({"reasoning": "Hm"}), event({"reasoning_content": "!", "content": None}))

    assert said == [{"role": "assistant", "reasoning_content": "Hm"}, {"reasoning_content": "!"}]


@pytest.mark.parametrize(
    "delta",
    [
        {"refusal": "No."},
        {"annotations": [{"type": "url_citation"}]},
        {"audio": {"data": "AAAA"}},
        {"images": [{"type": "image_url"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": ""}]},
    ],
    ids=str,
)
def test_what_openai_knows_is_kept(delta: dict[str, Any]) -> None:
    assert deltas(event(), event(delta))[1] == delta


def test_logprobs_are_kept_where_they_are_an_object() -> None:
    logprobs = {"content": [{"token": "", "logprob": -0.1}]}

    said = read(event(logprobs=[1]), event({"content": ""}, logprobs=logprobs), event(**DONE))

    assert [chunk["choices"][0]["logprobs"] for chunk in said] == [None, logprobs, None]


# ---- Calls


def call(index: Any = 0, **fields: Any) -> dict[str, Any]:
    return event({"tool_calls": [{"index": index} | fields]})


def test_a_call_is_named_once_and_its_arguments_stay_as_they_came() -> None:
    named = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x'}}

    first, *rest = deltas(call(**named), call(**more), call(function={"arguments": '": 1}'}))

    assert first == {"role": "assistant", "tool_calls": [{"index": 0} | named]}
    assert rest == [
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]},
    ]


def test_calls_are_told_apart_by_their_index() -> None:
    f, g = ({"name": name, "arguments": "{}"} for name in "fg")
    more = {"function": {"arguments": " "}}

    said = deltas(call(0, id="a", function=f), call(1, id="b", function=g), call(0, **more))

    pieces = [piece for delta in said for piece in delta["tool_calls"]]
    assert [piece["index"] for piece in pieces] == [0, 1, 0]
    assert [piece.get("id") for piece in pieces] == ["a", "b", None]


def test_a_call_without_an_index_is_the_one_its_id_says() -> None:
    function = {"name": "f", "arguments": "{"}

    said = deltas(
        call(None, id="a", function=function),
        call(None, function={"arguments": "}"}),
        call("?", id="b", function=function),
    )

    assert [delta["tool_calls"][0]["index"] for delta in said] == [0, 0, 1]


def test_a_call_always_has_an_id_and_a_type() -> None:
    (said,) = deltas(call(id="", function={"name": "f"}, extra_content={"signature": "s"}))

    (made,) = said["tool_calls"]
    assert made.pop("id").startswith("call_")
    assert made == {
        "index": 0,
        "type": "function",
        "extra_content": {"signature": "s"},
        "function": {"name": "f", "arguments": ""},
    }


def test_a_custom_tools_input_comes_in_pieces_too() -> None:
    said = deltas(
        call(id="a", type="custom", custom={"name": "f", "input": "x"}), call(custom={"input": "y"})
    )

    assert said[1] == {"tool_calls": [{"index": 0, "custom": {"input": "y"}}]}


def test_an_old_function_is_named_once() -> None:
    whole = {"name": "f", "arguments": "{"}

    said = deltas(event({"function_call": whole}), event({"function_call": {"arguments": "}"}}))

    assert said[0]["function_call"] == whole
    assert said[1] == {"function_call": {"arguments": "}"}}


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": "f"},
        {"tool_calls": ["f"]},
        {"tool_calls": [{"index": 0}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"x": 1}}}]},
        {"function_call": {"arguments": "{}"}},
        {"function_call": "f"},
        {"content": 3},
        {"content": {"text": "Hi"}},
        [],
        "Hi",
    ],
    ids=str,
)
def test_a_delta_that_nothing_sound_can_be_made_of_is_a_failure(delta: Any) -> None:
    with pytest.raises(ProviderFailed):
        read({"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]})


# ---- Anything at all


ANYTHING = st.sampled_from(
    [
        *(None, True, 0, 1, -1, 2**63, 1.5, "", "a", "stop", "error"),
        *([], [None], ["a"], [{}], [{"type": "reasoning.text", "text": 1, "index": []}]),
        *({}, {"a": None}, {"data": "a", "id": []}, {"content": [1], "refusal": None}),
    ]
)


def fields(*names: str) -> st.SearchStrategy[Any]:
    return ANYTHING | st.fixed_dictionaries({}, optional=dict.fromkeys(names, ANYTHING))


CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": ANYTHING,
            "id": ANYTHING,
            "type": st.sampled_from(["function", "custom"]),
        }
        | dict.fromkeys(["function", "custom"], fields("name", "arguments", "input")),
    ),
    max_size=2,
)
DELTAS = fields("role", "content", "reasoning", "refusal", "audio", "images", "annotations")
DELTAS |= st.fixed_dictionaries({}, optional={"tool_calls": CALLS, "function_call": ANYTHING})
CHOICES = st.fixed_dictionaries(
    {"delta": DELTAS},
    optional={"index": st.integers(-1, 2), "finish_reason": ANYTHING, "logprobs": ANYTHING},
)
EVENTS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, max_size=2) | ANYTHING},
    optional=dict.fromkeys(["id", "created", "model", "usage", "error", "service_tier"], ANYTHING),
)


@given(st.lists(EVENTS, max_size=4))
def test_whatever_comes_is_a_failure_or_openais_chunks(events: list[Any]) -> None:
    assembly = Assembly()
    try:
        for chunk in read(*events, event(finish_reason="stop")):
            assembly.add(chunk)
            orjson.dumps(assembly.completion())
            assert isinstance(chunk["id"], str)
            assert all(type(choice["index"]) is int for choice in chunk["choices"])
    except LikeDoError:
        return
    assert all(c["finish_reason"] for c in assembly.completion()["choices"])
