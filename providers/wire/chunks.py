"""OpenAI's chunks of a streamed answer: making them, and putting them together again."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

Chunk = dict[str, Any]

_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")
_TEXTS = ("refusal", "reasoning_content")
#: What comes instead of a text.
_INSTEAD = ("refusal", "tool_calls", "function_call")
_LISTS = ("annotations", "images")
#: Fields whose pieces are one text, in the sound of an answer, in a detail of its reasoning, and in
#: a call.
_SOUNDS = frozenset({"data", "transcript"})
_DETAILS = frozenset({"text", "summary"})
_CALLS = frozenset({"arguments", "input"})
#: The details of reasoning that come in pieces.
_IN_PIECES = ("reasoning.text", "reasoning.summary")


def choice(
    index: int,
    delta: dict[str, Any],
    *,
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    """Return one of the choices of a chunk."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def ending(
    head: Chunk, reasons: Iterable[tuple[int, str | None]], usage: dict[str, Any] | None
) -> Iterator[Chunk]:
    """Yield what ends a stream: why each choice does, by its index, and the usage if it is known.

    `head` is what all chunks have beside these.
    """
    for index, reason in reasons:
        yield head | {"choices": [choice(index, {}, finish_reason=reason)]}
    if usage:
        yield head | {"choices": [], "usage": usage}


class Assembly:
    """The `chat.completion` object that the chunks of a stream add up to.

    Adding is cheap, since texts are joined at the end, and that may be at any time: of a stream
    that is not over, a choice has no finish reason and its calls are as far as they came.
    """

    def __init__(self) -> None:
        self._last: Chunk = {}
        self._usage: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Chunk) -> None:
        """Take a chunk as `Provider.stream` yields it."""
        self._last = chunk
        self._usage = chunk.get("usage") or self._usage
        for found in chunk["choices"]:
            index = found["index"]
            if index not in self._choices:
                self._choices[index] = _Choice()
            self._choices[index].add(found)

    def completion(self) -> dict[str, Any]:
        """Return the whole of what was added, in the shape of `Provider.complete`."""
        choices = sorted(self._choices.items())
        return {
            "object": "chat.completion",
            **{name: self._last[name] for name in _HEAD if name in self._last},
            "choices": [choice.whole(index) for index, choice in choices],
            **({"usage": self._usage} if self._usage else {}),
        }


class _Choice:
    """What one choice said so far, by the field it was said in."""

    def __init__(self) -> None:
        self._said: dict[str, list[Any]] = {}
        #: The pieces of each tool call, by its index.
        self._calls: dict[int, list[dict[str, Any]]] = {}
        self._logprobs: list[dict[str, Any]] = []
        self._finish_reason: str | None = None

    def add(self, found: dict[str, Any]) -> None:
        for name, value in found["delta"].items():
            self._said.setdefault(name, []).append(value)
        for piece in found["delta"].get("tool_calls", ()):
            self._calls.setdefault(piece["index"], []).append(piece)
        if found["logprobs"]:
            self._logprobs.append(found["logprobs"])
        self._finish_reason = found["finish_reason"] or self._finish_reason

    def whole(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "message": self._message(),
            "logprobs": _concatenated(self._logprobs) if self._logprobs else None,
            "finish_reason": self._finish_reason,
        }

    def _message(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": None} | dict(self._fields())
        if self._calls:
            message["tool_calls"] = [_call(pieces) for _, pieces in sorted(self._calls.items())]
        # A stream begins with an empty text, whatever follows.
        if not message["content"] and any(message.get(name) for name in _INSTEAD):
            message["content"] = None
        return message

    def _fields(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields of the message, save its tool calls."""
        for name, pieces in self._said.items():
            if name == "content":
                yield name, _content(pieces)
            elif name in _TEXTS:
                yield name, "".join(piece for piece in pieces if piece) or None
            elif name in _LISTS:
                yield name, [item for piece in pieces for item in piece or ()]
            elif name == "reasoning_details":
                yield name, _details(pieces)
            elif name == "audio":
                yield name, _joined(pieces, _SOUNDS) or None
            elif name == "function_call":
                yield name, _joined(pieces, _CALLS)


def _content(pieces: list[Any]) -> Any:
    """Return a text, or the parts that some vendors send instead."""
    said = [piece for piece in pieces if piece is not None]
    if all(isinstance(piece, str) for piece in said):
        return "".join(said) if said else None
    parts = [[{"type": "text", "text": p}] if isinstance(p, str) else p for p in said if p]
    return [part for piece in parts for part in piece]


def _call(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tool call whose pieces these are."""
    call: dict[str, Any] = {}
    for piece in pieces:
        call |= piece
    del call["index"]
    kind = call["type"]
    return call | {kind: _joined([piece[kind] for piece in pieces], _CALLS)}


def _joined(pieces: list[Any], texts: frozenset[str]) -> dict[str, Any]:
    """Return one object of its `pieces`: those of `texts` in a row, of all else the last word."""
    whole: dict[str, Any] = {}
    said: dict[str, list[str]] = {}
    for piece in pieces:
        for name, value in (piece or {}).items():
            if name in texts and isinstance(value, str):
                said.setdefault(name, []).append(value)
            elif value or name not in whole:
                whole[name] = value
    return whole | {name: "".join(values) for name, values in said.items()}


def _details(pieces: list[Any]) -> Any:
    """Return OpenRouter's details of the reasoning, each one whole.

    A detail comes in pieces of the same type and index, one after another.
    """
    if not all(isinstance(piece, list | None) for piece in pieces):
        return pieces[-1]
    details = [detail for piece in pieces for detail in piece or ()]
    return [whole for key, group in groupby(details, _key) for whole in _merged(key, list(group))]


def _key(detail: Any) -> tuple[str, str] | None:
    kind = detail.get("type") if isinstance(detail, dict) else None
    return (str(kind), str(detail.get("index"))) if kind in _IN_PIECES else None


def _merged(key: Any, group: list[Any]) -> list[Any]:
    return group if key is None else [_joined(group, _DETAILS)]


def _concatenated(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one object with the lists of all `objects` in a row."""
    others: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for found in objects:
        for name, value in found.items():
            if isinstance(value, list):
                lists.setdefault(name, []).extend(value)
            else:
                others[name] = value
    return others | lists
