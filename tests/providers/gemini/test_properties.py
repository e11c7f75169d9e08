"""A conversation goes to Gemini and back, whatever it is, and nothing is lost that it can carry."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from net.call import Call
from providers.gemini import answers
from providers.gemini.chat import Gemini
from providers.gemini.messages import NO_SIGNATURE
from providers.wire import answer
from providers.wire.image_room import Room
from tests.providers.requests_and_routes import chat, route

TEXTS = st.text('ab1 {}[]":,\\\n\0é中😀\u2028', max_size=20)
#: Numbers that JSON carries without loss wherever it goes.
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
NAMES = st.text("abcXYZ_-09", min_size=1, max_size=20)
BASE64 = st.sampled_from(["aGk=", "aGVsbG8=", "AAAA"])


def text_parts(texts: list[str]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def said_in(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return texts | st.lists(texts, min_size=1, max_size=3).map(text_parts)


IMAGES = BASE64.map(
    lambda data: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
)
SOUNDS = BASE64.map(
    lambda data: {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
)
FILES = BASE64.map(
    lambda data: {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}"}}
)
PARTS = TEXTS.map(lambda text: {"type": "text", "text": text}) | IMAGES | SOUNDS | FILES
USERS = st.builds(
    lambda content: [{"role": "user", "content": content}],
    TEXTS | st.lists(PARTS, min_size=1, max_size=4),
)
SYSTEMS = st.builds(
    lambda role, content: [{"role": role, "content": content}],
    st.sampled_from(["system", "developer"]),
    said_in(TEXTS),
)
ASSISTANTS = st.builds(lambda content: [{"role": "assistant", "content": content}], said_in(TEXTS))


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw calls of tools, and their results in any order."""
    called, results = [], []
    for call_id in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        function = {"name": draw(NAMES), "arguments": json.dumps(draw(OBJECTS))}
        call: dict[str, Any] = {"id": call_id, "type": "function", "function": function}
        if draw(st.booleans()):
            call["extra_content"] = {"google": {"thought_signature": draw(BASE64)}}
        called.append(call)
        content = draw(OBJECTS.map(json.dumps) | said_in(TEXTS))
        results.append({"role": "tool", "tool_call_id": call_id, "content": content})
    said = {"role": "assistant", "content": draw(st.none() | TEXTS), "tool_calls": called}
    return [said, *draw(st.permutations(results))]


CONVERSATIONS = st.lists(USERS | SYSTEMS | ASSISTANTS | calls(), min_size=1, max_size=6).map(
    lambda groups: [message for group in groups for message in group]
)
MODELS = st.sampled_from(["gemini-3.8-flash", "gemini-2.5-pro", "gemini-flash-latest"])


def sent(model: str = "gemini-3.8-flash", **parameters: Any) -> dict[str, Any]:
    return Gemini().payload(chat(**parameters), route("gemini", model=model), None, Room(Call(5)))


# ---- What a plain reading finds on either side, in order


def told(messages: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield everything that is said in OpenAI's messages, save by the system."""
    for message in messages:
        match message["role"]:
            case "user":
                yield from (("user", *found) for found in shown(message["content"]))
            case "assistant":
                yield from (("model", *found) for found in shown(message["content"]))
                for call in message.get("tool_calls", []):
                    function = call["function"]
                    signature = call.get("extra_content", {}).get("google", {})
                    yield (
                        "call",
                        call["id"],
                        function["name"],
                        json.loads(function["arguments"]),
                        signature.get("thought_signature"),
                    )
            case "tool":
                text = "\n".join(found for _, found in shown(message["content"]))
                yield ("result", message["tool_call_id"], as_object(text))


def shown(content: Any) -> Iterator[tuple[str, str]]:
    parts = text_parts([content]) if isinstance(content, str) else content or []
    for part in parts:
        match part["type"]:
            case "text" if part["text"]:
                yield ("text", part["text"])
            case "image_url":
                yield ("image/png", part["image_url"]["url"].partition(",")[2])
            case "input_audio":
                yield ("audio/wav", part["input_audio"]["data"])
            case "file":
                yield ("application/pdf", part["file"]["file_data"].partition(",")[2])


def as_object(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"result": text}


def heard(turns: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield everything that is said in Gemini's turns."""
    for turn in turns:
        for part in turn["parts"]:
            if called := part.get("functionCall"):
                signature = part.get("thoughtSignature")
                found = None if signature == NO_SIGNATURE else signature
                yield ("call", called["id"], called["name"], called["args"], found)
            elif answered := part.get("functionResponse"):
                yield ("result", answered["id"], answered["response"])
            elif blob := part.get("inlineData"):
                yield (turn["role"], blob["mimeType"], blob["data"])
            else:
                yield (turn["role"], "text", part["text"])


BLANK = ("user", "text", " ")


@given(CONVERSATIONS, MODELS)
def test_a_conversation_arrives_whole_and_in_order(
    messages: list[dict[str, Any]], model: str
) -> None:
    arrived = list(heard(sent(model, messages=messages)["contents"]))

    assert [f for f in arrived if f != BLANK] == [f for f in told(messages) if f != BLANK]


@given(CONVERSATIONS, MODELS)
def test_turns_are_what_gemini_takes(messages: list[dict[str, Any]], model: str) -> None:
    turns = sent(model, messages=messages)["contents"]

    roles = [turn["role"] for turn in turns]
    assert turns
    assert all(turn["parts"] for turn in turns)
    assert all(first != second for first, second in zip(roles, roles[1:], strict=False))
    assert all(part.get("text") != "" for turn in turns for part in turn["parts"])


@given(CONVERSATIONS)
def test_what_the_system_says_arrives(messages: list[dict[str, Any]]) -> None:
    payload = sent(messages=messages)

    systems = [m for m in messages if m["role"] in ("system", "developer")]
    texts = [text for message in systems for _, text in shown(message["content"])]
    parts = payload.get("systemInstruction", {"parts": []})["parts"]
    assert [part["text"] for part in parts] == texts


@given(CONVERSATIONS)
def test_a_call_of_the_third_generation_is_signed(messages: list[dict[str, Any]]) -> None:
    for turn in sent(messages=messages)["contents"]:
        called = [part for part in turn["parts"] if "functionCall" in part]

        assert all(part["thoughtSignature"] for part in called[:1])


@given(st.lists(st.tuples(NAMES, TEXTS, OBJECTS), min_size=1, max_size=4))
def test_tools_arrive_whole(found: list[tuple[str, str, dict[str, Any]]]) -> None:
    functions = [
        {
            "name": name,
            "description": text,
            "parameters": {"type": "object", "properties": {"a": schema}},
        }
        for name, text, schema in found
    ]

    payload = sent(tools=[{"type": "function", "function": function} for function in functions])

    (tools,) = payload["tools"]
    assert [
        (each["name"], each.get("description", ""), each["parametersJsonSchema"])
        for each in tools["functionDeclarations"]
    ] == [(each["name"], each["description"], each["parameters"]) for each in functions]


ANSWERS = st.lists(
    st.one_of(
        st.builds(lambda text: {"text": text}, TEXTS),
        st.builds(lambda text: {"text": text, "thought": True}, TEXTS),
        st.builds(
            lambda name, args, ids, signature: {
                "functionCall": {"name": name, "args": args} | ids,
                **signature,
            },
            NAMES,
            OBJECTS,
            st.just({}) | NAMES.map(lambda found: {"id": found}),
            st.just({}) | BASE64.map(lambda found: {"thoughtSignature": found}),
        ),
    ),
    max_size=5,
)


def answered(parts: list[dict[str, Any]]) -> dict[str, Any]:
    content = {"role": "model", "parts": parts}
    body = {"candidates": [{"content": content, "finishReason": "STOP"}]}
    translated = answers.completion("gemini", body)
    return dict(answer.completion("gemini", translated, {})["choices"][0]["message"])


@given(ANSWERS)
def test_an_answer_that_comes_back_says_to_gemini_what_it_said(
    parts: list[dict[str, Any]],
) -> None:
    """All but thoughts and what stands between two calls, for which OpenAI has no place."""
    message = answered(parts)

    turns = sent("gemini-2.5-pro", messages=[{"role": "user", "content": "Hi"}, message])
    back = [part for turn in turns["contents"][1:] for part in turn["parts"]]

    texts = [part["text"] for part in parts if "text" in part and not part.get("thought")]
    assert "".join(part.get("text", "") for part in back) == "".join(texts)
    original = [part for part in parts if "functionCall" in part]
    returned = [part for part in back if "functionCall" in part]
    assert [_bare(part) for part in returned] == [_bare(part) for part in original]
    for one, other in zip(returned, original, strict=True):
        assert one["functionCall"]["id"] == other["functionCall"].get(
            "id", one["functionCall"]["id"]
        )


def _bare(part: dict[str, Any]) -> tuple[Any, ...]:
    called = part["functionCall"]
    return called["name"], called["args"], part.get("thoughtSignature")


@given(ANSWERS, st.data())
def test_an_answer_in_pieces_says_what_a_whole_one_does(
    parts: list[dict[str, Any]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(parts)), max_size=3)))
    bounds = zip([0, *cuts], [*cuts, len(parts)], strict=True)
    pieces = [{"candidates": [{"content": {"parts": parts[a:b]}}]} for a, b in bounds]
    pieces[-1]["candidates"][0]["finishReason"] = "STOP"

    said = list(answers.events("gemini", pieces))

    deltas = [choice["delta"] for event in said for choice in event["choices"]]
    whole = answered(parts)
    for name in ("content", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == (whole.get(name) or "")
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", [])]
    assert calls == [call["function"] for call in whole.get("tool_calls", [])]
    (last,) = said[-1]["choices"]
    assert last["finish_reason"] == ("tool_calls" if calls else "stop")
