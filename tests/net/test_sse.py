"""Events come out the same however the network cuts the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ProviderFailed
from net import sse
from net.sse import Parser


def events(*pieces: bytes) -> list[bytes]:
    parser = Parser()
    fed = [data for piece in pieces for data in parser.feed(piece)]
    return fed + parser.end()


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a: b\n\n", [b"a: b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata\ndata:\ndata: b\n\n", [b"a\n\n\nb"]),
        (b"data:\n\n", [b""]),
        (b": a comment\n\n:\n\n\ndata: a\n\n", [b"a"]),
        (b"event: delta\nid: 1\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\ndata: a\n\n", [b"a"]),
        (b"database: x\ndata : x\n data: x\nnothing\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\r", [b"a"]),
        (b"data: [DONE]\n", [b"[DONE]"]),
        (b"", []),
    ],
)
def test_a_body_is_its_events(body: bytes, data: list[bytes]) -> None:
    assert events(body) == data


def test_only_line_ends_end_a_line() -> None:
    """Python would also cut at these, which models write."""
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg".encode()

    assert events(b"data: " + text + b"\n\n") == [text]


LINES = st.sampled_from(
    [
        "data: ä€😀",
        "data",
        "data: {}",
        ": wait",
        "event: x",
        "id: 1",
        "",
        "",
        "\ufeff",
        "data: [DONE]",
    ]
)


@given(st.lists(st.tuples(LINES, st.sampled_from(["\r\n", "\n", "\r"]))), st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(
    lines: list[tuple[str, str]], data: st.DataObject
) -> None:
    body = "".join(line + end for line, end in lines).encode()
    places = sorted(data.draw(st.sets(st.integers(0, len(body)))))
    bounds = zip([0, *places], [*places, len(body)], strict=True)

    pieces = [body[start:end] for start, end in bounds]

    assert events(*pieces) == events(body)


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"])
def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 5000)
    parser = Parser()

    with pytest.raises(ProviderFailed, match="too large"):
        for _ in range(6):
            parser.feed(piece)


def test_many_small_events_are_not_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = Parser()

    for _ in range(100):
        assert parser.feed(b": a comment\ndata: some text\n\n") == [b"some text"]


def test_json_that_stands_there_bare_is_an_event() -> None:
    error = b'{\n  "error": {\n    "code": 499\n  }\n}'

    assert events(b"data: first\n\n" + error + b"\n\ndata: last\n\n") == [b"first", error, b"last"]
    assert events(b'data: first\n\n{"error": {}}\n') == [b"first", b'{"error": {}}']
