"""Reading a streamed answer: a vendor's events in, OpenAI's chunks out.

The rules of `providers.wire.answer` for whole answers hold for every piece. Vendors differ in where
they put things: a role on every delta, text beside the finish reason, usage on any chunk, empty
deltas while they wait. The order of what is yielded is always the same: the deltas, then the finish
reason of each choice, then the usage. An answer that does not reach its end is a failure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.errors import ProviderFailed
from net.answer import Answer
from providers.wire import answer as wire_answer
from providers.wire import chunks, json, refusal


def read(provider: str, answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the `chat.completion.chunk` objects of an answer of status 200 as they arrive.

    If the provider answers with a whole completion instead, it is read as a stream of one event. If
    an event is an error object, the error it stands for is raised; if the answer breaks off or is
    empty, `ProviderFailed`.
    """
    yield from read_events(provider, _events(provider, answer), answer.headers)


def read_events(
    provider: str, events: Iterable[Any], headers: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the chunks of `events`, decoded JSON with OpenAI's names; raise as `read` does."""
    stream = _Stream(provider, headers)
    for event in events:
        if chunk := stream.read(event):
            yield chunk
    yield from stream.end()


def _events(provider: str, answer: Answer) -> Iterator[Any]:
    if not answer.has_events():
        body = json.decoded(provider, answer.whole().content)
        yield _as_event(wire_answer.completion(provider, body, answer.headers))
        return
    for data in answer.events():
        if data:
            yield json.decoded(provider, data)


def _as_event(completion: dict[str, Any]) -> dict[str, Any]:
    choices = [choice | {"delta": choice["message"]} for choice in completion["choices"]]
    return completion | {"choices": choices}


@dataclass(slots=True)
class _Choice:
    """The state of one choice that is needed to read its next delta."""

    finish_reason: str | None = None
    #: The type of each tool call, by its index.
    calls: dict[int, str] = field(default_factory=dict)
    calls_function: bool = False


class _Stream:
    """The state of one streamed answer."""

    def __init__(self, provider: str, headers: Mapping[str, str]) -> None:
        self._provider = provider
        self._headers = headers
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None

    def read(self, event: Any) -> dict[str, Any] | None:
        """Return the chunk for an event; None if the event has nothing for a client yet."""
        if not isinstance(event, dict):
            raise wire_answer.empty_answer(self._provider)
        raw_choices = json.as_list(event.get("choices"))
        choices = [self._choice(index, raw, event) for index, raw in enumerate(raw_choices)]
        if event.get("error") and not (raw_choices and self._is_whole()):
            # OpenRouter may put an error beside the usage of an answer that has reached its end.
            raise refusal.refusal_within(self._provider, event["error"], self._headers)
        if reported := event.get("usage"):
            self._usage = wire_answer.usage(reported) or self._usage
        return self._chunk(event, [choice for choice in choices if choice])

    def end(self) -> Iterator[dict[str, Any]]:
        """Yield the last chunks of the stream; raise `ProviderFailed` if it broke off.

        Finish reasons are kept until here because some vendors send more after them, or repeat
        them.
        """
        if not self._is_whole():
            raise ProviderFailed(f"{self._provider} broke off its answer.")
        reasons = ((index, choice.finish_reason) for index, choice in self._choices.items())
        yield from chunks.final_chunks(self._head, reasons, self._usage)

    def _is_whole(self) -> bool:
        choices = self._choices.values()
        return bool(choices) and all(choice.finish_reason for choice in choices)

    def _chunk(self, event: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any] | None:
        if not choices:
            return None
        if not self._head:
            self._head = wire_answer.head(event, "chat.completion.chunk")
        self._head |= wire_answer.optional_head(event)
        return self._head | {"choices": choices}

    def _choice(self, position: int, raw: Any, event: dict[str, Any]) -> dict[str, Any] | None:
        if not isinstance(raw, dict):
            raise wire_answer.empty_answer(self._provider)
        wire_answer.raise_if_broken(self._provider, raw, event, self._headers)
        index, logprobs = raw.get("index"), json.as_object(raw.get("logprobs")) or None
        index = index if json.is_count(index) else position
        is_first = index not in self._choices
        choice = self._choices.setdefault(index, _Choice())

        delta = self._delta(choice, raw.get("delta"), is_first)
        reason = wire_answer.finish_reason(raw.get("finish_reason"))
        choice.finish_reason = choice.finish_reason or reason
        return chunks.choice(index, delta, logprobs=logprobs) if delta or logprobs else None

    def _delta(self, choice: _Choice, raw: Any, is_first: bool) -> dict[str, Any]:
        if not isinstance(raw, dict | None):
            raise wire_answer.empty_answer(self._provider)
        raw = raw or {}
        delta = wire_answer.message(self._provider, raw)
        if is_first:
            delta["role"] = "assistant"
        else:
            delta = {name: value for name, value in delta.items() if value and name != "role"}
        return delta | self._calls(choice, raw)

    def _calls(self, choice: _Choice, raw_delta: dict[str, Any]) -> dict[str, Any]:
        calls: dict[str, Any] = {}
        if function := raw_delta.get("function_call"):
            calls["function_call"] = self._called("function", function, not choice.calls_function)
            choice.calls_function = True
        raw_calls = wire_answer.tool_calls(self._provider, raw_delta)
        if pieces := [self._tool_call(choice, raw) for raw in raw_calls]:
            calls["tool_calls"] = pieces
        return calls

    def _tool_call(self, choice: _Choice, raw: Any) -> dict[str, Any]:
        """Return a piece of a call; only the first piece has its id, type and name."""
        if not isinstance(raw, dict):
            raise wire_answer.malformed_call(self._provider)
        index = _index_of(raw, choice)
        is_first = index not in choice.calls
        head = wire_answer.call_head(raw) if is_first else wire_answer.call_extras(raw)
        kind = choice.calls.setdefault(index, head.get("type", ""))
        return {"index": index, **head, kind: self._called(kind, raw.get(kind), is_first)}

    def _called(self, kind: str, raw: Any, is_first: bool) -> dict[str, str]:
        """Return a piece of the function, or the custom tool, that is called."""
        name_field, text_field = wire_answer.CALL_FIELDS[kind]
        called = json.as_object(raw)
        piece = {text_field: called.get(text_field) or ""}
        if is_first:
            piece = {name_field: called.get(name_field)} | piece
        if all(isinstance(value, str) for value in piece.values()):
            return piece
        raise wire_answer.malformed_call(self._provider)


def _index_of(piece: dict[str, Any], choice: _Choice) -> int:
    """Return the index of the call that a piece belongs to.

    A piece with an id but no index begins a new call; one with neither continues the last.
    """
    index = piece.get("index")
    if json.is_count(index):
        return index
    return len(choice.calls) if piece.get("id") or not choice.calls else max(choice.calls)
