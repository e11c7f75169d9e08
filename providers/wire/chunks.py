"""Chunks of a streamed answer in OpenAI's form: building them, and assembling the answer."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

Chunk = dict[str, Any]

_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")
_TEXTS = ("refusal", "reasoning_content")
#: Fields that a message may have instead of content.
_INSTEAD_OF_CONTENT = ("refusal", "tool_calls", "function_call")
_LISTS = ("annotations", "images")
#: Fields whose pieces are joined to one text: in audio, in a detail of the reasoning, in a call.
_AUDIO_TEXTS = frozenset({"data", "transcript"})
_DETAIL_TEXTS = frozenset({"text", "summary"})
_CALL_TEXTS = frozenset({"arguments", "input"})
#: The types of reasoning details that come in pieces.
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


def final_chunks(
    head: Chunk, reasons: Iterable[tuple[int, str | None]], usage: dict[str, Any] | None
) -> Iterator[Chunk]:
    """Yield the last chunks of a stream: one for each finish reason, then one for the usage.

    `head` holds the fields that all chunks share; `reasons` are pairs of a choice's index and its
    finish reason. If `usage` is None, there is no chunk for it.
    """
    for index, reason in reasons:
        yield head | {"choices": [choice(index, {}, finish_reason=reason)]}
    if usage:
        yield head | {"choices": [], "usage": usage}


class Assembly:
    """Collects the chunks of a stream and makes one `chat.completion` object of them.

    Adding is cheap, since texts are joined only by `completion`. It may be called at any time: in a
    stream that is not over, choices have no finish reason and calls may be incomplete.
    """

    def __init__(self) -> None:
        self._last: Chunk = {}
        self._usage: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Chunk) -> None:
        """Add a chunk as `Provider.stream` yields it."""
        self._last = chunk
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            index = choice["index"]
            if index not in self._choices:
                self._choices[index] = _Choice()
            self._choices[index].add(choice)

    def completion(self) -> dict[str, Any]:
        """Return the answer so far, in the shape that `Provider.complete` returns."""
        choices = sorted(self._choices.items())
        return {
            "object": "chat.completion",
            **{name: self._last[name] for name in _HEAD if name in self._last},
            "choices": [choice.assembled(index) for index, choice in choices],
            **({"usage": self._usage} if self._usage else {}),
        }


class _Choice:
    """The pieces of one choice so far."""

    def __init__(self) -> None:
        #: The pieces of each field of the message, in order.
        self._pieces: dict[str, list[Any]] = {}
        #: The pieces of each tool call, by its index.
        self._calls: dict[int, list[dict[str, Any]]] = {}
        self._logprobs: list[dict[str, Any]] = []
        self._finish_reason: str | None = None

    def add(self, choice: dict[str, Any]) -> None:
        for name, value in choice["delta"].items():
            self._pieces.setdefault(name, []).append(value)
        for piece in choice["delta"].get("tool_calls", ()):
            self._calls.setdefault(piece["index"], []).append(piece)
        if choice["logprobs"]:
            self._logprobs.append(choice["logprobs"])
        self._finish_reason = choice["finish_reason"] or self._finish_reason

    def assembled(self, index: int) -> dict[str, Any]:
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
        # A stream begins with an empty text even if no content follows.
        if not message["content"] and any(message.get(name) for name in _INSTEAD_OF_CONTENT):
            message["content"] = None
        return message

    def _fields(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields of the message except its tool calls."""
        for name, pieces in self._pieces.items():
            if name == "content":
                yield name, _content(pieces)
            elif name in _TEXTS:
                yield name, "".join(piece for piece in pieces if piece) or None
            elif name in _LISTS:
                yield name, [item for piece in pieces for item in piece or ()]
            elif name == "reasoning_details":
                yield name, _details(pieces)
            elif name == "audio":
                yield name, _joined(pieces, _AUDIO_TEXTS) or None
            elif name == "function_call":
                yield name, _joined(pieces, _CALL_TEXTS)


def _content(pieces: list[Any]) -> Any:
    """Return a text, or the list of parts that some vendors send instead."""
    pieces = [piece for piece in pieces if piece is not None]
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces) if pieces else None
    lists = [[{"type": "text", "text": p}] if isinstance(p, str) else p for p in pieces if p]
    return [part for parts in lists for part in parts]


def _call(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tool call that `pieces` add up to."""
    call: dict[str, Any] = {}
    for piece in pieces:
        call |= piece
    del call["index"]
    kind = call["type"]
    return call | {kind: _joined([piece[kind] for piece in pieces], _CALL_TEXTS)}


def _joined(pieces: list[Any], text_fields: frozenset[str]) -> dict[str, Any]:
    """Return one object made of `pieces`.

    The pieces of `text_fields` are concatenated; of any other field, the last non-empty value wins.
    """
    whole: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    for piece in pieces:
        for name, value in (piece or {}).items():
            if name in text_fields and isinstance(value, str):
                texts.setdefault(name, []).append(value)
            elif value or name not in whole:
                whole[name] = value
    return whole | {name: "".join(values) for name, values in texts.items()}


def _details(pieces: list[Any]) -> Any:
    """Return OpenRouter's `reasoning_details`, each one assembled.

    The pieces of a detail follow each other and have the same type and index.
    """
    if not all(isinstance(piece, list | None) for piece in pieces):
        return pieces[-1]
    details = [detail for piece in pieces for detail in piece or ()]
    return [detail for key, group in groupby(details, _key) for detail in _merged(key, list(group))]


def _key(detail: Any) -> tuple[str, str] | None:
    kind = detail.get("type") if isinstance(detail, dict) else None
    return (str(kind), str(detail.get("index"))) if kind in _IN_PIECES else None


def _merged(key: Any, group: list[Any]) -> list[Any]:
    return group if key is None else [_joined(group, _DETAIL_TEXTS)]


def _concatenated(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one object whose lists are those of all `objects`, concatenated."""
    others: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for item in objects:
        for name, value in item.items():
            if isinstance(value, list):
                lists.setdefault(name, []).extend(value)
            else:
                others[name] = value
    return others | lists
