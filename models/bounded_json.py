"""Decoding JSON that others sent, once its structure is known to be bounded.

orjson decodes in one call, which nothing can interrupt: seconds for millions of tiny values. So the
nodes, which are values and names, are counted on the bytes first. Each but the outermost follows a
comma, a colon or an opening bracket; their number is an upper bound, for some of them are text.
What exceeds it is counted again without its strings, since an honest prompt may be a table with a
million commas.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from config import limits
from ops import turns

#: What is looked at in one step; even, so that a slice of backslashes has no half of an escape.
SLICE_BYTES = 64 * 1024

_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class TooComplex(ValueError):
    """The JSON has too many nodes or too many levels; the message says how many are allowed."""


class TooDeep(TooComplex):
    """It has too many levels."""


@dataclass(frozen=True)
class Bounds:
    """The values and names that JSON may have, and its levels of lists and objects."""

    nodes: int
    depth: int


OF_REQUEST = Bounds(limits.MAX_JSON_NODES, limits.MAX_JSON_DEPTH)
#: A line of a batch is an object with four names, and one of its values is the body of a request.
OF_LINE = Bounds(OF_REQUEST.nodes + 8, OF_REQUEST.depth + 1)
OF_ANSWER = Bounds(limits.MAX_ANSWER_NODES, limits.MAX_ANSWER_DEPTH)
#: A refusal is only read, so it may be as deep as orjson reads.
OF_REFUSAL = Bounds(limits.MAX_JSON_NODES, 1024)


def loads(raw: bytes, bounds: Bounds = OF_REQUEST) -> Any:
    """Return the JSON in `raw`; raise `TooComplex`, or `orjson.JSONDecodeError`.

    Other greenlets run meanwhile, except while orjson decodes.
    """
    check(raw, bounds)
    was_enabled = gc.isenabled()
    # Every few thousand lists and objects would start a collection. One that goes through all that
    # the process has takes longer than decoding does.
    gc.disable()
    try:
        return orjson.loads(raw)
    finally:
        if was_enabled:
            gc.enable()
        turns.pause()


def check(raw: bytes, bounds: Bounds) -> None:
    """Raise `TooComplex` if the JSON in `raw` exceeds `bounds`. What is no JSON may pass."""
    if not _is_surely_within(raw, bounds):
        count_nodes(raw, bounds)


def _is_surely_within(raw: bytes, bounds: Bounds) -> bool:
    nodes, opening = 1, 0
    for piece in turns.slices(raw, SLICE_BYTES):
        opening += piece.count(b"[") + piece.count(b"{")
        nodes += piece.count(b",") + piece.count(b":")
        if opening > bounds.depth or nodes + opening > bounds.nodes:
            return False
    return True


def count_nodes(raw: bytes, bounds: Bounds) -> int:
    """Return how many nodes the JSON in `raw` has; raise `TooComplex` if it exceeds `bounds`."""
    nodes, opening, closing, quotes = 1, 0, 0, 0
    brackets: list[bytes] = []
    for structure, count in _without_strings(raw):
        turns.pause()
        of_slice = structure.translate(_TO_SQUARE, _NO_BRACKETS)
        opening += of_slice.count(b"[")
        closing += of_slice.count(b"]")
        nodes += structure.count(b",") + structure.count(b":")
        quotes += count
        # Every string is a node. If there are more, they are not separated, and this is no JSON.
        if max(nodes + opening, quotes // 2) > bounds.nodes:
            raise TooComplex(f"it may have at most {bounds.nodes:,} values and names")
        brackets.append(of_slice)
        if closing > opening:
            break  # This is no JSON, and a parser comes no further.
    if _is_deeper(b"".join(brackets), bounds.depth):
        raise TooDeep(f"lists and objects may be nested at most {bounds.depth} deep")
    return nodes + opening


def _without_strings(raw: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield what is outside strings, slice by slice, and the number of quotes in each slice."""
    start, is_inside = 0, False
    while start < len(raw):
        piece = raw[start : start + SLICE_BYTES]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2 and start + len(piece) < len(raw):
            piece = piece[:-1]  # It escapes the first character of the next slice.
        start += len(piece)
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        yield b"".join(parts[is_inside::2]), len(parts) - 1
        is_inside ^= len(parts) % 2 == 0


def _is_deeper(brackets: bytes, depth: int) -> bool:
    """Tell whether `brackets`, square ones alone, are nested deeper than `depth`.

    Each round removes the innermost pairs, so it takes as many rounds as there are levels.
    """
    for _ in range(depth):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            return False  # None are left, or those left do not match and a parser will say so.
        brackets = inner
        turns.pause()
    return bool(brackets)
