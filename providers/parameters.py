"""What a request asks for, and whether a route can honour it.

What a model can honour is data: the catalogue's words in `Upstream.takes`, the tables below, and
the provider's own attributes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from config.catalog.model import Route
from models.chat import ChatRequest
from models.chat_parameters import DEFAULT_TEMPERATURE
from models.errors import UnsupportedParameter
from providers.base import Provider

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


class Checked(Provider):
    """A provider that refuses by name what a route does not support.

    Providers differ by the facts below.
    """

    #: Words and parameters that no model of the provider supports, whatever the catalogue says.
    unsupported: ClassVar[frozenset[str]] = frozenset()
    #: Words that every model of the provider supports, beside those in the catalogue.
    supports: ClassVar[frozenset[str]] = frozenset()
    #: Words that every model of the provider supports with some help from us.
    emulates: ClassVar[frozenset[str]] = frozenset()
    #: It supports OpenAI's newer tools: custom ones, and a choice among some of those given.
    supports_custom_tools: ClassVar[bool] = False
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

    def capabilities(self, request: ChatRequest, route: Route) -> frozenset[str]:
        """Return the words of what `route` supports in this request."""
        return (route.upstream.takes | self.supports | self.emulates) - self.unsupported

    def _honours(self, name: str, capabilities: frozenset[str]) -> bool:
        return NEEDS.get(name) in (None, *capabilities) and name not in self.unsupported

    def _refused(self, request: ChatRequest, route: Route) -> Iterator[str]:
        """Yield every parameter that asks for something and cannot be honoured."""
        body, capabilities = request.body, self.capabilities(request, route)
        if request.routing_preference is not None and not self.routes_itself:
            yield "provider"
        for name in asked(body):
            if not self._honours(name, capabilities) and not _left_out(name, body, route):
                yield name
        if not self.supports_custom_tools:
            yield from _custom_tools(body)
        if format_of(body) not in ("text", *capabilities):
            yield "response_format"
        yield from self._refused_parts(request.messages, capabilities)

    def _refused_parts(
        self, messages: Iterable[Message], capabilities: frozenset[str]
    ) -> Iterator[str]:
        for place, message in enumerate(messages):
            for at, part in enumerate(parts_of(message)):
                if PARTS.get(part["type"]) not in (None, *capabilities):
                    yield f"messages[{place}].content[{at}]"


def _custom_tools(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield where `body` has tools, or chooses among them, in ways that only OpenAI has."""
    for place, tool in enumerate(body.get("tools") or ()):
        if tool["type"] != "function":
            yield f"tools[{place}]"
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] != "function":
        yield "tool_choice"


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


def _left_out(name: str, body: Mapping[str, Any], route: Route) -> bool:
    """Say whether `name` is let go, since the model stands in for one that took it.

    The alias was documented with a temperature. Its successor answers without reasoning, which
    is as near as it gets, and has no temperature to set.
    """
    stands_in = route.extra.get("reasoning_effort") == "none"
    return name == "temperature" and stands_in and body.get("reasoning_effort", "none") == "none"
