"""How a stream ends: with a reason, with the usage, with an error, or broken off."""

from typing import Any

import pytest

from models.errors import LikeDoError, ProviderBusy, ProviderFailed, ProviderRefusedUs
from tests.providers.wire.events import DONE, SO_FAR, USAGE, event, read

# ---- How it ends


def test_what_is_said_beside_the_reason_goes_out_before_it() -> None:
    *said, finish = read(event({"content": "Hi"}, **DONE))

    assert [chunk["choices"][0]["finish_reason"] for chunk in said] == [None]
    assert said[0]["choices"][0]["delta"]["content"] == "Hi"
    assert finish["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    ]


def test_a_reason_is_given_once_and_after_all_that_is_said() -> None:
    said = read(event({"content": "A"}, **DONE), event({"content": "B"}, **DONE), event(**DONE))

    found = [(c["delta"].get("content"), c["finish_reason"]) for x in said for c in x["choices"]]
    assert found == [("A", None), ("B", None), (None, "stop")]


def test_a_reason_is_one_of_openais() -> None:
    assert read(event(finish_reason="end_turn"))[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([event(**DONE), {"choices": [], "usage": USAGE}], id="of-its-own"),
        pytest.param([event(**DONE) | {"usage": USAGE}], id="beside-the-reason"),
        pytest.param([event(**DONE), event({"content": ""}) | {"usage": USAGE}], id="after-it"),
        pytest.param([event() | {"usage": SO_FAR}, event(**DONE) | {"usage": USAGE}], id="growing"),
        pytest.param([event(**DONE) | {"usage": USAGE}, event() | {"usage": {}}], id="once-only"),
    ],
)
def test_usage_is_the_last_chunk_wherever_the_vendor_puts_it(events: list[Any]) -> None:
    said = read(*events)

    assert (said[-1]["choices"], said[-1]["usage"]) == ([], USAGE)
    assert all("usage" not in chunk for chunk in said[:-1])
    assert len(said) == 3


def test_usage_that_nobody_reported_is_not_made_up() -> None:
    assert all("usage" not in chunk for chunk in read(event(**DONE)))


@pytest.mark.parametrize(
    "events",
    [
        [],
        [b""],
        [{"choices": []}],
        [{"choices": [], "usage": USAGE}],
        [event({"content": "Hi"})],
        [event({"content": "Hi"}, finish_reason="")],
        [event({"content": "Hi"}, finish_reason=7)],
        [event({"content": "A"}, **DONE), event({"content": "B"}, index=1)],
        [event({"content": "Hi"}, finish_reason="error")],
        [event({"content": "Hi"}, finish_reason="insufficient_system_resource")],
    ],
    ids=str,
)
def test_a_stream_that_does_not_come_to_its_end_broke_off(events: list[Any]) -> None:
    with pytest.raises(ProviderFailed, match="broke off"):
        read(*events)


@pytest.mark.parametrize(
    "events",
    [
        [b"{"],
        [b"Hello"],
        [b"\xff"],
        [b"[" * 100_000],
        [None],
        [[]],
        [{"choices": [None]}],
        [{"choices": ["Hi"]}],
    ],
    ids=lambda events: repr(events)[:40],
)
def test_an_event_that_is_none_is_a_failure(events: list[Any]) -> None:
    with pytest.raises(ProviderFailed):
        read(event({"content": "Hi"}), *events, event(**DONE))


def test_what_is_nested_too_deeply_is_a_failure() -> None:
    details: Any = []
    for _ in range(250):
        details = [details]

    with pytest.raises(ProviderFailed, match="nested"):
        read(event({"reasoning_details": details}, **DONE))


def test_half_a_character_does_not_spoil_an_event() -> None:
    broken = rb'{"choices": [{"delta": {"content": "Hi\ud83d"}, "finish_reason": "stop"}]}'

    first, *_ = read(broken)

    assert first["choices"][0]["delta"]["content"] == "Hi\ufffd"


# ---- Errors inside


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "Sorry.", "type": "server_error", "code": None}, ProviderFailed),
        ({"message": "Slow down.", "code": 429}, ProviderBusy),
        ({"message": "Funds.", "code": "insufficient_quota"}, ProviderRefusedUs),
        ("Sorry.", ProviderFailed),
    ],
)
@pytest.mark.parametrize("beside", [{}, {"choices": [{"delta": {}, "finish_reason": "error"}]}])
def test_an_error_in_the_stream_is_raised(
    error: Any, kind: type[LikeDoError], beside: dict[str, Any]
) -> None:
    zeros = {"choices": [], "usage": dict.fromkeys(USAGE, 0)}

    with pytest.raises(kind) as raised:
        read(event({"content": "Hi"}), {"error": error} | beside, zeros)

    assert type(raised.value) is kind


def test_an_error_of_one_choice_is_raised() -> None:
    with pytest.raises(ProviderBusy):
        read(event({"content": "Hi"}, error={"code": 429}))


def test_an_error_after_the_reason_is_raised_where_it_is_no_note() -> None:
    with pytest.raises(ProviderFailed):
        read(event({"content": "Hi"}, **DONE), {"error": {"message": "Sorry."}})


def test_a_note_beside_the_usage_of_a_whole_answer_is_no_error() -> None:
    note = event({"content": ""}) | {"error": {"code": 400, "message": "Token limit reached"}}

    said = read(event({"content": "Hi"}, finish_reason="length"), note | {"usage": USAGE})

    assert said[-1]["usage"] == USAGE


# ---- A vendor that does not stream


def test_a_whole_completion_is_said_in_one_piece() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in ("f", "g")
    ]
    message = {"role": "assistant", "content": "Hi", "reasoning": "Hm", "tool_calls": calls}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}]

    said = read(whole={"id": "c1", "choices": choices, "usage": USAGE})

    first, finish, usage = said
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "Hm",
        "tool_calls": [{"index": place} | call for place, call in enumerate(calls)],
    }
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"] == USAGE


def test_an_error_object_instead_of_a_stream_is_raised() -> None:
    with pytest.raises(ProviderBusy):
        read(whole={"error": {"code": 429, "message": "Slow down."}})
