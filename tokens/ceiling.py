"""An upper bound of a prompt's tokens from its bytes, for holds."""

import zlib
from collections.abc import Iterable, Sequence

import orjson

from tokens import texts as tokens_texts
from tokens.texts import Body, Message


def prompt_ceiling(body: Body) -> int:
    """Return more tokens than the prompt of a request is, whose `body` has been checked.

    Counts everything that can reach a model: messages, functions, schemas, and what is not known
    here. Images and other media count at their flat figures, so the bytes of a data URL are never
    text. How far above the prompt it is, and for what text it may be below: see `text_ceiling`.
    """
    messages: Sequence[Message] = body.get("messages") or ()
    texts = (text.encode("utf-8", "replace") for text in tokens_texts.message_texts(messages))
    others = map(orjson.dumps, (*tokens_texts.unknown_in(messages), *tokens_texts.parameters(body)))
    return (
        sum(map(text_ceiling, (*texts, *others)))
        + tokens_texts.flat_tokens(body)
        + tokens_texts.unsaid_tokens(body)
    )


# ---- The guess -----------------------------------------------------------------------------------

#: The parts in which `_TOKENS_OF` is counted.
_PARTS_OF_A_TOKEN = 20

#: Tokens that each byte stands for. Of a character beyond ASCII the first byte stands for all, and
#: says which scripts it can be of. A digit may be a token and so may be the space before it.
_TOKENS_OF: list[tuple[float, Iterable[int]]] = [
    (1.5, range(0x80)),  # White space other than the space, and what cannot be seen.
    (1.0, b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    (2.0, b"0123456789"),
    (0.8, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    (0.55, b"abcdefghijklmnopqrstuvwxyz"),
    (0.5, b" "),
    (1.25, range(0xC2, 0xC6)),  # Latin letters with accents.
    (2.0, range(0xC6, 0xE0)),
    (1.0, (*range(0xCE, 0xD2), *range(0xD7, 0xDA))),  # Greek, Cyrillic; Hebrew, Arabic.
    (2.0, range(0xE0, 0xEA)),  # Indic scripts, Thai; Japanese; Chinese.
    (3.0, [0xE1]),  # Georgian, Ethiopic, Cherokee, Khmer and more.
    (2.5, (0xE2, *range(0xEA, 0xF0))),  # Symbols; Korean; wide forms.
    (4.0, range(0xF0, 0xF5)),  # Emoji.
]


def _table() -> bytes:
    table = bytearray(256)
    for tokens, values in _TOKENS_OF:
        for value in values:
            table[value] = round(tokens * _PARTS_OF_A_TOKEN)
    return bytes(table)


_TABLE = _table()
#: So many bytes of the table cannot sum up to the modulus of Adler-32.
_CHUNK_BYTES = 65_520 // max(_TABLE)


def text_ceiling(text: bytes) -> int:
    """Return more tokens than `text`, in UTF-8, is: from half of its bytes up to all of them.

    No token is less than a byte, so no text has more than twice the tokens that are returned. Next
    to `o200k_base` it is 2 to 3 times the tokens of English prose and of code, and at least the
    tokens of prose in any common script, JSON, hex, base64, digits however spaced, white space and
    random ASCII, of some hundred characters; of less it may miss a few tokens. Text composed to be
    dense has more: single letters two spaces apart a third, rare characters at random a tenth.
    Takes 1 to 2 ms for 1 MB.
    """
    parts = text.translate(_TABLE)
    starts = range(0, len(parts), _CHUNK_BYTES)
    total = sum([_sum(parts[start : start + _CHUNK_BYTES]) for start in starts])
    return min(len(text), -(-total // _PARTS_OF_A_TOKEN))


def _sum(parts: bytes) -> int:
    """Return the sum of up to `_CHUNK_BYTES` bytes of the table, five times as fast as `sum`.

    The lower half of Adler-32 is one more than the sum of all bytes.
    """
    return (zlib.adler32(parts) & 0xFFFF) - 1
