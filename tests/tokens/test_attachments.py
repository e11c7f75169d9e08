"""What an attached file or sound may cost at most, by its bytes."""

import base64
import struct
from typing import Any

import pytest

from tokens.attachments import MAX_DOCUMENT_TOKENS, MIN_DOCUMENT_TOKENS, attached_ceiling
from tokens.ceiling import prompt_ceiling

SECONDS = 60


def wav(rate: int, coding: int = 1) -> bytes:
    data = bytes(rate * 2 * SECONDS)
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 0, b"WAVEfmt ", 16, coding, 1, rate, 0, 2, 16)
    return head + data


def bound(kind: str, limit: int | None = None, **fields: str) -> int:
    body = {"messages": [{"role": "user", "content": [{"type": kind, kind: fields}]}]}
    assert prompt_ceiling(body, limit) >= attached_ceiling(body, limit)
    return attached_ceiling(body, limit)


def text(data: bytes, media_type: str = "") -> str:
    written = base64.b64encode(data).decode()
    return f"data:{media_type};base64,{written}" if media_type else written


PDF = b"%PDF-1.7\n" + bytes(20_000)


@pytest.mark.parametrize(
    ("file_data", "least", "most"),
    [
        (text(PDF), 40_000, 40_100),
        (text(PDF, "application/pdf"), 40_000, 40_100),
        # Whatever it is called.
        (text(PDF, "text/plain"), 40_000, 40_100),
        (text(PDF[:200], "application/pdf"), MIN_DOCUMENT_TOKENS, MIN_DOCUMENT_TOKENS),
        (text(PDF * 50, "application/pdf"), MAX_DOCUMENT_TOKENS, MAX_DOCUMENT_TOKENS),
        ("https://example.com/a.pdf", MAX_DOCUMENT_TOKENS, MAX_DOCUMENT_TOKENS),
        (text(b"a,b\n" * 1000, "text/csv"), 4000, 4010),
        ("data:text/plain," + "a%20" * 1000, 4000, 4010),
        (text(wav(8000), "audio/wav"), 32 * SECONDS, 32 * SECONDS + 64),
    ],
    ids=str,
)
def test_a_file_costs_what_a_vendor_may_read_in_it(file_data: str, least: int, most: int) -> None:
    assert least <= bound("file", file_data=file_data) <= most


@pytest.mark.parametrize(
    ("data", "bytes_per_second"),
    [
        (wav(24_000), 48_000),
        # A second of this takes a byte or two.
        (wav(1), 2),
        (wav(24_000, coding=85), 100),
        (b"ID3" + bytes(60_000), 1000),
        (b"OggS" + bytes(60_000), 100),
        (b"", 1),
    ],
)
def test_sound_costs_by_the_second(data: bytes, bytes_per_second: int) -> None:
    tokens = bound("input_audio", data=text(data), format="mp3")

    assert 0 <= tokens - 32 * (len(data) / bytes_per_second) <= 64


def test_the_context_is_the_most() -> None:
    assert bound("file", 8_000, file_data=text(PDF)) == 8_000
    assert bound("input_audio", 8_000, data=text(b"OggS" + bytes(10**6)), format="ogg") == 8_000


def test_what_is_sent_in_place_of_an_image_counts_as_what_it_is() -> None:
    def image(url: Any) -> int:
        part = {"type": "image_url", "image_url": {"url": url}}
        return attached_ceiling({"messages": [{"role": "user", "content": [part]}]})

    assert image(text(PDF, "application/pdf")) >= 40_000
    assert image(text(PDF, "image/png")) == image("https://example.com/a.png") == image(7) == 0
