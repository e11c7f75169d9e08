"""The chunks of a stream add up to the completion that would have come whole."""

from typing import Any

from providers.wire import chunks
from providers.wire.chunks import Assembly
from tokens import count

HEAD = {
    "id": "c1",
    "object": "chat.completion.chunk",
    "created": 5,
    "model": "m",
    "system_fingerprint": "fp",
    "service_tier": "default",
}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(delta: dict[str, Any], index: int = 0, **more: Any) -> dict[str, Any]:
    return HEAD | {"choices": [chunks.choice(index, delta, **more)]}


def assembled(*found: dict[str, Any]) -> dict[str, Any]:
    assembly = Assembly()
    for one in found:
        assembly.add(one)
    return assembly.completion()


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    """Return the message that `deltas` add up to, without its role."""
    first = {"role": "assistant"}
    whole = assembled(chunk(first), *map(chunk, deltas))["choices"][0]["message"]
    assert whole.pop("role") == "assistant"
    return dict(whole)


def test_a_completion_is_whole() -> None:
    ending = chunks.final_chunks(HEAD, [(0, "stop")], USAGE)

    whole = assembled(
        chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), *ending
    )

    assert whole == HEAD | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def test_a_stream_that_is_not_over_has_no_reason_and_can_be_counted() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}

    whole = assembled(
        chunk({"role": "assistant", "content": "Hello there"}), chunk({"tool_calls": [call]})
    )

    assert whole["choices"][0]["finish_reason"] is None
    assert "usage" not in whole
    assert count.count_answer(whole) == sum(map(count.count_text, ["Hello there", "f", "{"]))


def test_of_nothing_nothing_is_counted() -> None:
    whole = Assembly().completion()

    assert whole["choices"] == []
    assert count.count_answer(whole) == 0


def test_an_assembly_may_be_looked_at_and_go_on() -> None:
    assembly = Assembly()
    said = []
    for word in ("One", " two"):
        assembly.add(chunk({"content": word}))
        said.append(assembly.completion()["choices"][0]["message"]["content"])

    assert said == ["One", "One two"]


def test_choices_are_told_apart_and_stand_in_order() -> None:
    said = [(1, "C"), (0, "A"), (1, "D"), (0, "B")]

    whole = assembled(*(chunk({"content": text}, index) for index, text in said))

    found = [(c["index"], c["message"]["content"]) for c in whole["choices"]]
    assert found == [(0, "AB"), (1, "CD")]


def test_texts_are_joined() -> None:
    said = message(
        {"content": None, "refusal": None, "reasoning_content": "H"},
        {"reasoning_content": "m"},
        {"content": "a"},
        {"content": "b"},
    )

    assert said == {"content": "ab", "refusal": None, "reasoning_content": "Hm"}


def test_a_refusal_or_a_call_has_no_empty_text_beside_it() -> None:
    empty = {"content": ""}

    assert message(empty)["content"] == ""
    assert message(empty, {"refusal": "N"}, {"refusal": "o"}) == {"content": None, "refusal": "No"}
    assert message(empty, {"function_call": {"name": "f", "arguments": ""}})["content"] is None


def test_parts_of_a_content_stay_parts() -> None:
    image = {"type": "image_url"}

    assert message({"content": "A"}, {"content": [image]})["content"] == [
        {"type": "text", "text": "A"},
        image,
    ]


def test_calls_are_joined_by_their_index() -> None:
    def call(index: int, text: str, **head: Any) -> dict[str, Any]:
        function = {"name": head.pop("name")} if "name" in head else {}
        piece = {"index": index, **head, "function": function | {"arguments": text}}
        return {"tool_calls": [piece]}

    said = message(
        call(1, "", id="b", type="function", name="g"),
        call(0, "", id="a", type="function", name="f", extra_content={"s": 1}),
        call(1, "{"),
        call(0, '{"x"'),
        call(0, ": 1}"),
        call(1, "}"),
    )

    f = {"name": "f", "arguments": '{"x": 1}'}
    assert said["tool_calls"] == [
        {"id": "a", "type": "function", "function": f, "extra_content": {"s": 1}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_an_old_function_is_joined() -> None:
    said = message(
        {"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"arguments": "}"}}
    )

    assert said == {"content": None, "function_call": {"name": "f", "arguments": "{}"}}


def test_lists_are_put_in_a_row() -> None:
    said = message({"annotations": [1], "images": None}, {"annotations": [2]}, {"images": [3]})

    assert (said["annotations"], said["images"]) == ([1, 2], [3])


def test_logprobs_are_put_in_a_row() -> None:
    found: list[dict[str, Any]] = [{"content": [1], "refusal": None}, {"content": [2, 3]}]

    whole = assembled(*(chunk({}, logprobs=logprobs) for logprobs in found))

    assert whole["choices"][0]["logprobs"] == {"content": [1, 2, 3], "refusal": None}
    assert found[0]["content"] == [1]


def test_sound_is_joined() -> None:
    said = message(
        {"audio": {"id": "a", "transcript": "H"}},
        {"audio": {"data": "AA"}},
        {"audio": {"data": "BB", "transcript": "i", "expires_at": 7}},
    )

    assert said["audio"] == {"id": "a", "transcript": "Hi", "data": "AABB", "expires_at": 7}


def test_details_of_reasoning_are_made_whole() -> None:
    """Pieces of one text are joined, and its signature comes last and by itself."""

    def text(index: int, **fields: Any) -> dict[str, Any]:
        return {"type": "reasoning.text", "index": index} | fields

    hidden = [{"type": "reasoning.encrypted", "data": data, "index": 2} for data in "xy"]
    details = [
        text(0, text="", signature="", format="f"),
        text(0, text="H"),
        text(0, text="m", signature=None),
        text(0, signature="s"),
        text(1, text="So"),
        *hidden,
    ]

    said = message(*({"reasoning_details": [detail]} for detail in details))

    whole = text(0, text="Hm", signature="s", format="f")
    assert said["reasoning_details"] == [whole, text(1, text="So"), *hidden]


def test_details_in_another_shape_are_kept() -> None:
    odd = [{"reasoning_details": [item]} for item in (None, "a", {"type": []})]

    assert message(*odd)["reasoning_details"] == [None, "a", {"type": []}]
    assert message({"reasoning_details": {"a": 1}})["reasoning_details"] == {"a": 1}
