"""An upper bound of the tokens of attached files and sound, from their bytes, for holds.

What a vendor makes of a file is known only once it has read it. So this is a bound for files as
people send them, up to the model's context, which no prompt exceeds: a document composed to have
more text than bytes can exceed it, and is then charged from what the account has beside the hold.
"""

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

from tokens.texts import Body, parts_of

#: A page of a document is its text and an image of it: at OpenAI some 1,100 tokens and the text's,
#: at Gemini 258 to 1,120. A compressed page of text has 1.5 KB or more.
DOCUMENT_TOKENS_PER_BYTE = 2
#: Whatever its bytes: some pages of a small document, and what vendors accept at most. Gemini reads
#: 1,000 pages of 258 tokens; OpenAI's 100 pages of text and image are no more.
MIN_DOCUMENT_TOKENS = 10_000
MAX_DOCUMENT_TOKENS = 258_000
#: Gemini's figure for a second of sound; OpenAI's is 10.
TOKENS_PER_SECOND = 32
#: The lowest rate of an MP3, 8 kbit/s; and of other compressed speech with its pauses.
MP3_BYTES_PER_SECOND = 1000
SOUND_BYTES_PER_SECOND = 100

#: A WAV file begins with these; the head of 36 bytes says how it is coded, and how fast it plays.
_RIFF, _WAVE = b"RIFF", b"WAVEfmt "
_HEAD_BYTES = 36
#: Uncompressed samples, as integers or floats.
_PLAIN_CODINGS = (1, 3)
_MP3_STARTS = (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2")
#: The types of a file that a vendor reads as the text that it is.
_TEXT_TYPES = ("text/", "application/json", "application/xml")


def attached_ceiling(body: Body, context_tokens: int | None = None) -> int:
    """Return an upper bound of the tokens of the files and sound in a request's `body`.

    It is at most `context_tokens`, the longest context of the models that may answer; None: any.
    """
    messages: Iterable[Mapping[str, Any]] = body.get("messages") or ()
    tokens = sum(_part_tokens(part) for message in messages for part in parts_of(message))
    return tokens if context_tokens is None else min(tokens, context_tokens)


def _part_tokens(part: Mapping[str, Any]) -> int:
    attached = part.get(str(part.get("type")))
    fields = attached if isinstance(attached, dict) else {}
    match part.get("type"):
        case "input_audio":
            return _sound_tokens(_text(fields.get("data")))
        case "file":
            return _file_tokens(_text(fields.get("file_data")))
        case "image_url":
            url = _text(fields.get("url"))
            # Gemini takes any data in place of an image; an image has a flat rate.
            is_other = url.startswith("data:") and not url.startswith("data:image/")
            return _file_tokens(url) if is_other else 0
        case _:
            return 0


def _file_tokens(data: str) -> int:
    """Return the bound for `data`: a data URL, bare base64, or the address of a file."""
    if data.startswith(("http://", "https://")):
        return MAX_DOCUMENT_TOKENS
    media_type, size, head = _read(data)
    if media_type.startswith("audio/"):
        return _sound_tokens(data)
    if media_type.startswith(_TEXT_TYPES) and not head.startswith(b"%PDF"):
        return size
    return min(max(size * DOCUMENT_TOKENS_PER_BYTE, MIN_DOCUMENT_TOKENS), MAX_DOCUMENT_TOKENS)


def _sound_tokens(data: str) -> int:
    _, size, head = _read(data)
    return TOKENS_PER_SECOND * (1 + size // _bytes_per_second(head))


def _bytes_per_second(head: bytes) -> int:
    """Return the least bytes of a second of the sound that begins with `head`."""
    if head.startswith(_RIFF) and head[8:16] == _WAVE and len(head) >= _HEAD_BYTES:
        coding, rate, frame = head[20:22], head[24:28], head[32:34]
        if int.from_bytes(coding, "little") in _PLAIN_CODINGS:
            return max(1, int.from_bytes(rate, "little") * int.from_bytes(frame, "little"))
    return MP3_BYTES_PER_SECOND if head.startswith(_MP3_STARTS) else SOUND_BYTES_PER_SECOND


def _read(data: str) -> tuple[str, int, bytes]:
    """Return the media type of `data`, its size in bytes once decoded, and its first bytes."""
    if not data.startswith("data:"):
        return "", *_read_base64(data)
    options, _, content = data.removeprefix("data:").partition(",")
    media_type = options.lower()
    if ";base64" in media_type:
        return media_type, *_read_base64(content)
    return media_type, len(content), unquote_to_bytes(content[: 3 * _HEAD_BYTES])


def _read_base64(content: str) -> tuple[int, bytes]:
    head = b""
    with suppress(ValueError):  # Not base64, so a vendor will refuse it.
        head = base64.b64decode(content[: _HEAD_BYTES * 4 // 3])
    return -(-len(content) * 3 // 4), head


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
