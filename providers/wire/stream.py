"""Reading an answer that comes in pieces: a vendor's events in, OpenAI's chunks out.

What `providers.answers` says of whole answers holds here for every piece. Vendors differ in what
they put where: a role on every delta, text beside the reason to finish, usage on any chunk, empty
deltas while they wait. What comes out is always the same: what each choice says, then for each
choice why it ended, then the usage. An answer that is not brought to its end is a failure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.errors import ProviderFailed
from net.answer import Answer
from providers.wire import answer as wire_answer
from providers.wire import chunks, json, refusal


def read(provider: str, answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the `chat.completion.chunk` objects in an answer of status 200, as they come.

    A provider that answers with a whole completion has said all of it in one piece. Raises the
    error that an error object stands for, and `ProviderFailed` where the answer breaks off or is
    none at all.
    """
    yield from read_events(provider, _events(provider, answer), answer.headers)


def read_events(
    provider: str, events: Iterable[Any], headers: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the chunks in `events`, decoded JSON in OpenAI's names; raise as `read` does."""
    stream = _Stream(provider, headers)
    for event in events:
        if said := stream.read(event):
            yield said
    yield from stream.end()


def _events(provider: str, answer: Answer) -> Iterator[Any]:
    if not answer.has_events():
        whole = json.decoded(provider, answer.whole().content)
        yield _as_event(wire_answer.completion(provider, whole, answer.headers))
        return
    for data in answer.events():
        if data:
            yield json.decoded(provider, data)


def _as_event(completion: dict[str, Any]) -> dict[str, Any]:
    choices = [choice | {"delta": choice["message"]} for choice in completion["choices"]]
    return completion | {"choices": choices}


@dataclass(slots=True)
class _Choice:
    """What the next delta of a choice has to be read by."""

    finish_reason: str | None = None
    #: The type of each tool call, by its index.
    calls: dict[int, str] = field(default_factory=dict)
    calls_function: bool = False


class _Stream:
    """One answer, as far as it has come."""

    def __init__(self, provider: str, headers: Mapping[str, str]) -> None:
        self._provider = provider
        self._headers = headers
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None

    def read(self, event: Any) -> dict[str, Any] | None:
        """Return the chunk that an event makes; None where it says nothing to a client."""
        if not isinstance(event, dict):
            raise wire_answer.nothing(self._provider)
        found = json.as_list(event.get("choices"))
        said = [self._choice(place, choice, event) for place, choice in enumerate(found)]
        if event.get("error") and not (found and self._is_whole()):
            # OpenRouter notes an error beside the usage of an answer that has come to its end.
            raise refusal.refusal_within(self._provider, event["error"], self._headers)
        if reported := event.get("usage"):
            self._usage = wire_answer.usage(reported) or self._usage
        return self._chunk(event, [choice for choice in said if choice])

    def end(self) -> Iterator[dict[str, Any]]:
        """Yield what ends the stream; raise `ProviderFailed` where it is not at its end.

        The reasons wait until here because some vendors go on after them, or repeat them.
        """
        if not self._is_whole():
            raise ProviderFailed(f"{self._provider} broke off its answer.")
        reasons = ((index, choice.finish_reason) for index, choice in self._choices.items())
        yield from chunks.ending(self._head, reasons, self._usage)

    def _is_whole(self) -> bool:
        choices = self._choices.values()
        return bool(choices) and all(choice.finish_reason for choice in choices)

    def _chunk(self, event: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any] | None:
        if not choices:
            return None
        if not self._head:
            self._head = wire_answer.head(event, "chat.completion.chunk")
        self._head |= wire_answer.more_of_head(event)
        return self._head | {"choices": choices}

    def _choice(self, place: int, found: Any, event: dict[str, Any]) -> dict[str, Any] | None:
        if not isinstance(found, dict):
            raise wire_answer.nothing(self._provider)
        wire_answer.raise_if_broken(self._provider, found, event, self._headers)
        index, logprobs = found.get("index"), json.as_object(found.get("logprobs")) or None
        index = index if json.is_count(index) else place
        is_first = index not in self._choices
        choice = self._choices.setdefault(index, _Choice())

        delta = self._delta(choice, found.get("delta"), is_first)
        reason = wire_answer.finish_reason(found.get("finish_reason"))
        choice.finish_reason = choice.finish_reason or reason
        return chunks.choice(index, delta, logprobs=logprobs) if delta or logprobs else None

    def _delta(self, choice: _Choice, found: Any, is_first: bool) -> dict[str, Any]:
        if not isinstance(found, dict | None):
            raise wire_answer.nothing(self._provider)
        found = found or {}
        said = wire_answer.message(self._provider, found)
        if is_first:
            said["role"] = "assistant"
        else:
            said = {name: value for name, value in said.items() if value and name != "role"}
        return said | self._calls(choice, found)

    def _calls(self, choice: _Choice, found: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if called := found.get("function_call"):
            said["function_call"] = self._called("function", called, not choice.calls_function)
            choice.calls_function = True
        calls = wire_answer.tool_calls(self._provider, found)
        if pieces := [self._tool_call(choice, call) for call in calls]:
            said["tool_calls"] = pieces
        return said

    def _tool_call(self, choice: _Choice, found: Any) -> dict[str, Any]:
        """Return a piece of a call: its id, type and name are in the first one only."""
        if not isinstance(found, dict):
            raise wire_answer.no_call(self._provider)
        index = _index_of(found, choice)
        is_first = index not in choice.calls
        head = wire_answer.call_head(found) if is_first else wire_answer.call_extras(found)
        kind = choice.calls.setdefault(index, head.get("type", ""))
        return {"index": index, **head, kind: self._called(kind, found.get(kind), is_first)}

    def _called(self, kind: str, found: Any, is_first: bool) -> dict[str, str]:
        name, text = wire_answer.CALLED[kind]
        called = json.as_object(found)
        said = {text: called.get(text) or ""}
        if is_first:
            said = {name: called.get(name)} | said
        if all(isinstance(value, str) for value in said.values()):
            return said
        raise wire_answer.no_call(self._provider)


def _index_of(found: dict[str, Any], choice: _Choice) -> int:
    """Return which of the calls a piece belongs to; one with an id and no index is a new one."""
    index = found.get("index")
    if json.is_count(index):
        return index
    return len(choice.calls) if found.get("id") or not choice.calls else max(choice.calls)
