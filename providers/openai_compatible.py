"""A provider that speaks OpenAI's chat protocol: facts are class attributes, the rest is here.

What a model can honour is data: the catalogue's words in `Upstream.takes`, the tables below, and
the provider's own attributes.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from config.catalog import Route
from config.settings import settings
from models.chat import DEFAULT_TEMPERATURE, OWN_PARAMETERS, ChatRequest
from models.errors import UnsupportedParameter
from providers import answers, errors, http, streams
from providers.base import Provider
from providers.http import Call

Message = dict[str, Any]

#: The word of `Upstream.takes` that each parameter needs.
NEEDS = {
    "temperature": "sampling",
    "top_p": "sampling",
    "presence_penalty": "sampling",
    "frequency_penalty": "sampling",
    "logit_bias": "sampling",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "stop": "stop",
    "seed": "seed",
    "n": "n",
    "tools": "tools",
    "tool_choice": "tools",
    "parallel_tool_calls": "tools",
    "functions": "tools",
    "function_call": "tools",
    "reasoning_effort": "reasoning_effort",
}

#: Values that ask for nothing, since a model without the parameter behaves so anyway. The
#: temperature has two: the product's default and OpenAI's.
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "temperature": (DEFAULT_TEMPERATURE, 1),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "n": (1,),
    "tool_choice": ("auto", "none"),
    "parallel_tool_calls": (True,),
    "function_call": ("auto", "none"),
}

#: What some parameters speak of; without it they say nothing.
SUBJECTS = {"tool_choice": "tools", "parallel_tool_calls": "tools", "function_call": "functions"}

#: The word that a part of a message needs, by the part's type.
PARTS = {"image_url": "images", "input_audio": "audio", "file": "files"}

EVERYTHING = frozenset({*NEEDS.values(), *PARTS.values(), "json_object", "json_schema"})

#: Parameters that do not change the answer.
HARMLESS = frozenset({"user", "metadata", "store", "service_tier"})

#: Set anew for every provider.
_SET_BY_US = frozenset(
    {"stream", "stream_options", "messages", "model", "max_tokens", "max_completion_tokens"}
)

#: Sent for a stream. Without the usage nobody would know what to charge.
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAICompatible(Provider):
    """A newcomer needs its `name`, and those of the facts below that differ."""

    path: ClassVar[str] = "/chat/completions"
    #: What goes along beside the key, such as the name of the application.
    headers: ClassVar[Mapping[str, str]] = {}
    #: Words and parameters that no model of the provider takes, whatever the catalogue says.
    lacks: ClassVar[frozenset[str]] = frozenset()
    #: Words that every model of the provider takes with some help from us.
    emulates: ClassVar[frozenset[str]] = frozenset()
    #: Parameters that it does not know and that may be left out in silence.
    leaves_out: ClassVar[frozenset[str]] = frozenset()
    #: Fields of a message that other providers answer with and this one does not take back.
    foreign_fields: ClassVar[frozenset[str]] = frozenset(
        {"reasoning_content", "reasoning_details", "images"}
    )
    #: It takes OpenAI's newer tools: custom ones, and a choice among some of those that are given.
    takes_custom_tools: ClassVar[bool] = False
    #: It understands a `provider` object, OpenRouter's routing preference.
    routes_itself: ClassVar[bool] = False

    def check(self, request: ChatRequest, route: Route) -> None:
        refused = next(self._refused(request, route), None)
        if refused is None:
            return
        but_default = " other than its default" if refused in DEFAULTS else ""
        raise UnsupportedParameter(
            f"'{request.model}' at {self.name} does not support '{refused}'{but_default}. "
            "Leave it out, or name another model or provider.",
            param=refused,
        )

    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        sent = self.payload(request, route, max_tokens)
        response = http.post(call, self._url(), self._headers(key), sent)
        if response.status != 200:
            raise errors.refusal(self.name, response)
        return answers.chat_completion(self.name, response)

    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        sent = self.payload(request, route, max_tokens) | STREAMED
        with http.stream(call, self._url(), self._headers(key), sent) as answer:
            if answer.status != 200:
                raise errors.refusal(self.name, answer.whole())
            yield from streams.read(self.name, answer)

    def _url(self) -> str:
        return settings.base_url_of(self.name) + self.path

    def _headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}", **self.headers}

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        """Return what to send for `request`, which stays as it is."""
        takes = self.takes(request, route)
        sent = {name: value for name, value in request.body.items() if self._passes(name, takes)}
        sent = {name: value for name, value in sent.items() if _has_its_subject(name, sent)}
        sent = {**route.extra, **sent}
        sent["model"] = route.upstream.id
        sent["messages"] = self.messages(request)
        if limit := max_tokens or request.max_tokens:
            sent[self.limit_name(route)] = limit
        if "sampling" in takes and self.defaults_temperature(request, route):
            sent.setdefault("temperature", DEFAULT_TEMPERATURE)
        return sent

    def takes(self, request: ChatRequest, route: Route) -> frozenset[str]:
        """Return the words of what `route` can honour in this request."""
        return (route.upstream.takes | self.emulates) - self.lacks

    def messages(self, request: ChatRequest) -> list[Message]:
        """Return the history as the provider takes it."""
        return [without(self.foreign_fields, message) for message in request.messages]

    def limit_name(self, route: Route) -> str:
        """Return what the provider calls the most tokens to answer with."""
        return "max_tokens"

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        """Say whether the product's default temperature is sent where the caller gave none."""
        return not route.upstream.reasoning

    def _passes(self, name: str, takes: frozenset[str]) -> bool:
        """Say whether a parameter goes upstream.

        `check` has refused those that ask for what the model lacks, so what is left out of them
        here is at its default.
        """
        if name in OWN_PARAMETERS or name in _SET_BY_US or name in self.leaves_out:
            return False
        return self._honours(name, takes)

    def _honours(self, name: str, takes: frozenset[str]) -> bool:
        return NEEDS.get(name) in (None, *takes) and name not in self.lacks

    def _refused(self, request: ChatRequest, route: Route) -> Iterator[str]:
        """Yield every parameter that asks for something and cannot be honoured."""
        body, takes = request.body, self.takes(request, route)
        if request.routing_preference is not None and not self.routes_itself:
            yield "provider"
        for name in asked(body):
            if not self._honours(name, takes) and not _left_out(name, body, route):
                yield name
        if not self.takes_custom_tools:
            yield from _custom_tools(body)
        if format_of(body) not in ("text", *takes):
            yield "response_format"
        yield from self._refused_parts(request.messages, takes)

    def _refused_parts(self, messages: Iterable[Message], takes: frozenset[str]) -> Iterator[str]:
        for place, message in enumerate(messages):
            for at, part in enumerate(parts_of(message)):
                if PARTS.get(part["type"]) not in (None, *takes):
                    yield f"messages[{place}].content[{at}]"


def _custom_tools(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield where `body` has tools, or chooses among them, in ways that only OpenAI has."""
    for place, tool in enumerate(body.get("tools") or ()):
        if tool["type"] != "function":
            yield f"tools[{place}]"
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] != "function":
        yield "tool_choice"


def _has_its_subject(name: str, sent: Mapping[str, Any]) -> bool:
    """Tell whether what `name` speaks of is there; OpenAI refuses it where it is not."""
    return name not in SUBJECTS or SUBJECTS[name] in sent


def asked(body: Mapping[str, Any]) -> list[str]:
    """Return the parameters of `NEEDS` that ask for something: given, and not a default."""
    return [
        name
        for name in NEEDS
        if body.get(name) is not None and body[name] not in DEFAULTS.get(name, ())
    ]


def format_of(body: Mapping[str, Any]) -> str:
    """Return `text`, `json_object` or `json_schema`."""
    return str((body.get("response_format") or {}).get("type", "text"))


def parts_of(message: Message) -> list[dict[str, Any]]:
    """Return the parts of a message's content; a plain string has none."""
    content = message.get("content")
    return content if isinstance(content, list) else []


def without(fields: Iterable[str], message: Message) -> Message:
    """Return `message` without `fields`: itself where it has none of them."""
    found = [field for field in fields if field in message]
    if not found:
        return message
    return {name: value for name, value in message.items() if name not in found}


def _left_out(name: str, body: Mapping[str, Any], route: Route) -> bool:
    """Say whether `name` is let go, since the model stands in for one that took it.

    The alias was documented with a temperature. Its successor answers without reasoning, which
    is as near as it gets, and has no temperature to set.
    """
    stands_in = route.extra.get("reasoning_effort") == "none"
    return name == "temperature" and stands_in and body.get("reasoning_effort", "none") == "none"
