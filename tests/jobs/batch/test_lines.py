"""The lines of a batch's file, in whatever pieces it comes."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.key_rules import KeyRules
from config.limits import MAX_JSON_DEPTH, MAX_JSON_NODES
from config.settings import settings
from jobs.batch import lines
from jobs.batch.lines import LineError
from models.errors import InvalidRequest

MOST = 1000
ENDPOINT = "/v1/chat/completions"


def in_pieces(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40), st.booleans())
def test_every_line_is_found_where_it_is(texts: list[bytes], size: int, ended: bool) -> None:
    content = b"\n".join(texts) + (b"\n" if ended else b"")

    found = list(lines.spans(in_pieces(content, size), MOST))

    whole = content.removeprefix(lines.BYTE_ORDER_MARK).split(b"\n")
    wanted = [(number, raw) for number, raw in enumerate(whole, 1) if raw.strip()]
    assert [(span.number, span.raw) for span in found] == wanted
    for span in found:
        assert content[span.start : span.start + len(span.raw)] == span.raw


@pytest.mark.parametrize("size", [7, 64, 5000])
def test_a_line_that_is_too_long_is_told_by_its_number(size: int) -> None:
    content = b"a\n" + b"x" * (MOST + 5000)

    with pytest.raises(LineError) as raised:
        list(lines.spans(in_pieces(content, size), MOST))

    assert (raised.value.openai_code, raised.value.line) == ("request_too_large", 2)


def test_a_line_has_the_bounds_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "sandbox", True)
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "[,]" * 200_000}]}
    line = {"custom_id": "a", "method": "POST", "url": ENDPOINT, "body": body}
    deep: list[Any] = []
    for _ in range(MAX_JSON_DEPTH - 2):
        deep = [deep]

    def check(seen: list[Any]) -> str:
        return lines.check(
            orjson.dumps(line | {"body": body | {"seen": seen}}), ENDPOINT, "chat", KeyRules()
        )

    assert check(deep) == "a"
    for many in ([deep], [0] * MAX_JSON_NODES):
        with pytest.raises(InvalidRequest, match="too complex"):
            check(many)
