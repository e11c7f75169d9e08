"""Answers with images in their JSON: the images in files, whatever the bytes and however cut."""

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ProviderFailed
from providers.wire import spooling
from providers.wire.spooling import LONG_BYTES, SpooledImage
from tests.providers.wire.images.spooled import LARGE, LONG, SMALL, kept, parse, text

# ---- What comes out


def test_long_base64_is_a_file_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    body = {"created": 1, "data": [{"b64_json": text(LARGE), "revised_prompt": "é\n"}, None]}

    found = parse(json.dumps(body), tmp_path)

    image = found["data"][0].pop("b64_json")
    assert kept(image) == LARGE
    assert found == {"created": 1, "data": [{"revised_prompt": "é\n"}, None]}
    assert list(tmp_path.iterdir()) == [image.path]


def test_short_strings_stay_and_are_saved_alike(tmp_path: Path) -> None:
    found = parse(json.dumps([text(SMALL), text(LARGE)]), tmp_path)

    assert found[0] == text(SMALL)
    assert [spooling.saved(image, tmp_path).read_bytes() for image in found] == [SMALL, LARGE]


def test_a_string_is_long_from_one_byte_on(tmp_path: Path) -> None:
    longest = "A" * LONG_BYTES

    assert parse(json.dumps(longest), tmp_path) == longest
    assert kept(parse(json.dumps(longest + "AAAA"), tmp_path)) is not None


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["short", "long"])
@pytest.mark.parametrize("end", [0, 1, 2], ids=["whole", "one-over", "two-over"])
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda data: text(data), id="plain"),
        pytest.param(lambda data: text(data).rstrip("="), id="without-padding"),
        pytest.param(lambda data: base64.urlsafe_b64encode(data).decode(), id="of-urls"),
        pytest.param(lambda data: base64.encodebytes(data).decode(), id="in-lines"),
        pytest.param(lambda data: "data:image/png;base64," + text(data), id="data-url"),
        pytest.param(lambda data: "DATA:image/png;a=b;BASE64," + text(data), id="other-data-url"),
        pytest.param(lambda data: "data:;base64," + text(data), id="data-url-without-type"),
    ],
)
def test_base64_may_be_written_in_many_ways(
    tmp_path: Path, data: bytes, end: int, written: Any
) -> None:
    data += b"\xfb" * end

    for size in (65536, 1000):
        image = parse(json.dumps(written(data)), tmp_path, size)
        assert spooling.saved(image, tmp_path).read_bytes() == data


@pytest.mark.parametrize(
    "escape",
    [
        lambda string: string.replace("/", r"\/"),
        lambda string: string.replace("+", r"\u002b").replace("/", r"\u002F"),
        lambda string: "".join(f"\\u{ord(each):04x}" for each in string),
        lambda string: r"\r\n\t ".join(string[at : at + 76] for at in range(0, len(string), 76)),
    ],
)
@pytest.mark.parametrize("size", [7, 65536])
def test_escapes_in_base64_are_read(tmp_path: Path, escape: Any, size: int) -> None:
    body = f'["{escape(text(LARGE))}"]'

    assert kept(parse(body, tmp_path, size)[0]) == LARGE


@pytest.mark.parametrize(
    "string",
    [
        pytest.param("!" * len(LONG), id="no-base64"),
        pytest.param(LONG + "A", id="one-character-too-many"),
        pytest.param(LONG[:-8] + "====" + LONG[-4:], id="padding-in-the-middle"),
        pytest.param(LONG + "====", id="padding-without-need"),
        pytest.param(LONG + "AA==AAAA", id="something-after-padding"),
        pytest.param(LONG[:-4] + "ä" * 4, id="not-ascii"),
        pytest.param(LONG + r"\u00e4", id="not-ascii-escaped"),
        pytest.param(LONG + r"\ud83d", id="half-a-character"),
        pytest.param(LONG + r"\\", id="a-backslash"),
        pytest.param(LONG + r"\"", id="a-quote"),
        pytest.param("data:image/png," + LONG, id="data-url-of-something-else"),
        pytest.param("data:" + LONG, id="data-url-that-is-none"),
        pytest.param(" " * len(LONG), id="nothing"),
        pytest.param("The quick brown fox. " * 10_000, id="prose"),
    ],
)
@pytest.mark.parametrize("size", [7, 65536])
def test_what_is_not_base64_is_a_broken_image_and_no_file(
    tmp_path: Path, string: str, size: int
) -> None:
    body = f'{{"bad": "{string}", "good": "{LONG}"}}'

    found = parse(body, tmp_path, size)

    assert found["bad"] == SpooledImage(None)
    with pytest.raises(ProviderFailed, match="not base64"):
        spooling.saved(found["bad"], tmp_path)
    assert kept(found["good"]) == LARGE
    assert list(tmp_path.iterdir()) == [found["good"].path]


@pytest.mark.parametrize(
    "image",
    [None, 5, {}, [], "", " ", "A", "!!!!", "====", "AAAA=", "data:", "data:image/png;base64,"]
    + ["data:image/png,AAAA", "https://images.example/a.png", "ä", "\ud83d", "\\/\\/"],
)
def test_what_is_no_image_is_the_providers_failure(tmp_path: Path, image: Any) -> None:
    with pytest.raises(ProviderFailed):
        spooling.saved(image, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", ["data", "dat", "DA", "da=="])
def test_base64_may_look_like_the_beginning_of_a_data_url(tmp_path: Path, image: str) -> None:
    padded = image + "=" * (-len(image) % 4)

    assert spooling.saved(image, tmp_path).read_bytes() == base64.b64decode(padded)


# ---- What is no JSON


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        '"',
        '{"image": "',
        f'{{"image": "{LONG}',
        f'{{"image": "{LONG}\\',
        f'{{"image": "{LONG}\\"',
        f'{{"image": "{LONG}"',
        f'{{"image": "{LONG}"}}}}',
        f'{{"image": "{LONG}\\x41"}}',
        f'{{"image": "{LONG}\\u00"}}',
        f'{{"image": "{LONG}\\u00zz"}}',
        f'{{"image": "{LONG}\n"}}',
        f'{{"image": "{LONG}" "more"}}',
        f'{{"image": {LONG}}}',
        "[" * 1000 + f'"{LONG}"' + "]" * 1000,
    ],
)
@pytest.mark.parametrize("size", [7, 65536])
def test_what_is_not_json_is_the_providers_failure(tmp_path: Path, body: str, size: int) -> None:
    with pytest.raises(ProviderFailed):
        parse(body, tmp_path, size)


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    def without_end() -> Iterator[bytes]:
        while True:
            yield b'"short",' * 8192

    with pytest.raises(ProviderFailed, match="too large"):
        spooling.parse("vendor", without_end(), tmp_path)


def test_a_provider_cannot_name_what_is_not_its_own(tmp_path: Path) -> None:
    first = parse(json.dumps([LONG]), tmp_path)[0]

    assert parse(json.dumps([str(first.path), first.path.name]), tmp_path) == [
        str(first.path),
        first.path.name,
    ]


# ---- Any JSON, any split


ALPHABET = "ABab01+/-_="
ESCAPED = [r"\/", r"\u002b", r"\u002F", r"\u0041", r"\n", r"\\", r"\"", r"\u00e9", r"\ud83d\ude00"]
PARTS = st.sampled_from([*ALPHABET, *ALPHABET, *ESCAPED, "é", "😀", "data:;base64,", " "])
#: Strings as they stand in JSON, without their quotes.
STRINGS = st.one_of(
    st.lists(PARTS, max_size=40).map("".join),
    st.binary(max_size=60).map(text),
    st.binary(max_size=60).map(lambda data: "data:image/png;base64," + text(data)),
)
WHITE = st.text(" \n\t", max_size=2)
DOCUMENTS = st.recursive(
    st.sampled_from(["1", "-2.5e3", "true", "null", "[]", "{}"]) | STRINGS.map('"{}"'.format),
    lambda inner: st.one_of(
        st.tuples(WHITE, st.lists(inner, max_size=4)).map(lambda it: f"[{it[0]}{','.join(it[1])}]"),
        st.lists(st.tuples(st.text("abc", max_size=3), WHITE, inner), max_size=4).map(
            lambda it: "{" + ",".join(f'"{name}"{white}:{value}' for name, white, value in it) + "}"
        ),
    ),
    max_leaves=12,
)


def plainly(body: str, long_bytes: int) -> Any:
    """Return what `parse` has to make of `body`, in the simplest way."""
    decoder = json.JSONDecoder()
    # The length of a string is that of its writing, which the decoder does not tell.
    scan = decoder.parse_string

    def parse_string(source: str, end: int, *more: Any) -> tuple[Any, int]:
        value, stop = scan(source, end, *more)
        written = source[end : stop - 1]
        is_long = len(written.encode()) > long_bytes
        return (Long(value) if is_long else value), stop

    decoder.parse_string = parse_string
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder.decode(body)


class Long(str):
    """A string that is to be a file."""


def decoded(string: str) -> bytes | None:
    """Return the bytes that `string` is the base64 of, if it is."""
    head, comma, rest = string.partition(",")
    if comma and head.lower().startswith("data:") and head.lower().endswith(";base64"):
        string = rest
    string = "".join(string.split(" ")).replace("\n", "").replace("-", "+").replace("_", "/")
    body = string.rstrip("=")
    padding = len(string) - len(body)
    if padding > -len(body) % 4 or len(body) % 4 == 1 or not body or not body.isascii():
        return None
    if not all(each.isalnum() or each in "+/" for each in body):
        return None
    return base64.b64decode(body + "=" * (-len(body) % 4))


def compare(found: Any, expected: Any) -> None:
    if isinstance(expected, Long):
        assert kept(found) == decoded(expected)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            compare(one, other)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            compare(found[name], value)
    else:
        assert found == expected


@given(DOCUMENTS, st.data(), st.integers(3, 40))
def test_any_json_cut_anywhere_is_read_as_its_parts(
    body: str, data: st.DataObject, long_bytes: int
) -> None:
    content = body.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    edges = [0, *cuts, len(content)]
    pieces = [content[start:end] for start, end in zip(edges, edges[1:], strict=False)]

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooling, "LONG_BYTES", long_bytes)
        found = spooling.parse("vendor", pieces, Path(folder))
        compare(found, plainly(body, long_bytes))


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b'"', b"\\", b'{"a":"', b"AAAA"])))
def test_no_bytes_are_too_odd_for_an_error_of_ours(pieces: list[bytes]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooling, "LONG_BYTES", 5)
        with suppress(ProviderFailed):
            spooling.parse("vendor", pieces, Path(folder))
