"""The lines of a batch's file, in whatever pieces it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.batch import lines
from jobs.batch.lines import LineError

MOST = 1000


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
