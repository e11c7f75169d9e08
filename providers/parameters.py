"""Checking whether a route supports the parameters of a request.

What a model supports is data: the capabilities in the catalogue's `Upstream.takes`, the tables
below, and class attributes of the provider.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from config.catalog.model import Route
from models.chat import ChatRequest
from models.chat_parameters import DEFAULT_TEMPERATURE
from models.errors import UnsupportedParameter
from ops.turns import in_turns
from providers.base import Provider

Message = dict[str, Any]

#: The capability, as named in `Upstream.takes`, that each parameter needs.
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

#: Default values: a model without the parameter behaves as if it had this value. The temperature
#: has two, the product's default and OpenAI's.
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

#: Parameters that have a meaning only beside another one.
DEPENDS_ON = {"tool_choice": "tools", "parallel_tool_calls": "tools", "function_call": "functions"}

#: The capability that a part of a message needs, by the part's type.
PART_NEEDS = {"image_url": "images", "input_audio": "audio", "file": "files"}

EVERYTHING = frozenset({*NEEDS.values(), *PART_NEEDS.values(), "json_object", "json_schema"})

#: Parameters that do not change the answer.
HARMLESS = frozenset({"user", "metadata", "store", "service_tier"})


class Checked(Provider):
    """A provider whose `check` names the first parameter that a route does not support.

    Subclasses differ in the facts below.
    """

    #: Capabilities and parameters that no model of the provider supports, whatever the catalogue
    #: says.
    unsupported: ClassVar[frozenset[str]] = frozenset()
    #: Capabilities that every model of the provider supports, in addition to the catalogue's.
    supports: ClassVar[frozenset[str]] = frozenset()
    #: Capabilities that we emulate for every model of the provider.
    emulates: ClassVar[frozenset[str]] = frozenset()
    #: Whether it supports OpenAI's newer tools: custom ones, and `allowed_tools` as a tool choice.
    supports_custom_tools: ClassVar[bool] = False
    #: Whether it accepts a `provider` object, OpenRouter's routing preference.
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
        """Return the capabilities of `route` for this request."""
        return (route.upstream.takes | self.supports | self.emulates) - self.unsupported

    def _is_supported(self, name: str, capabilities: frozenset[str]) -> bool:
        return NEEDS.get(name) in (None, *capabilities) and name not in self.unsupported

    def _refused(self, request: ChatRequest, route: Route) -> Iterator[str]:
        """Yield each parameter that is not at its default and that `route` does not support."""
        body, capabilities = request.body, self.capabilities(request, route)
        if request.routing_preference is not None and not self.routes_itself:
            yield "provider"
        for name in requested_parameters(body):
            if not self._is_supported(name, capabilities) and not _is_dropped(name, body, route):
                yield name
        if not self.supports_custom_tools:
            yield from _custom_tools(body)
        if format_of(body) not in ("text", *capabilities):
            yield "response_format"
        yield from self._refused_parts(request.messages, capabilities)

    def _refused_parts(
        self, messages: Iterable[Message], capabilities: frozenset[str]
    ) -> Iterator[str]:
        for index, message in in_turns(enumerate(messages)):
            for part_index, part in in_turns(enumerate(parts_of(message))):
                if PART_NEEDS.get(part["type"]) not in (None, *capabilities):
                    yield f"messages[{index}].content[{part_index}]"


def _custom_tools(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of tools, and of a tool choice, of types that only OpenAI supports."""
    for index, tool in enumerate(body.get("tools") or ()):
        if tool["type"] != "function":
            yield f"tools[{index}]"
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] != "function":
        yield "tool_choice"


def requested_parameters(body: Mapping[str, Any]) -> list[str]:
    """Return the parameters of `NEEDS` that are in `body` and not at their default."""
    return [
        name
        for name in NEEDS
        if body.get(name) is not None and body[name] not in DEFAULTS.get(name, ())
    ]


def format_of(body: Mapping[str, Any]) -> str:
    """Return the type of the response format: `text`, `json_object` or `json_schema`."""
    return str((body.get("response_format") or {}).get("type", "text"))


def parts_of(message: Message) -> list[dict[str, Any]]:
    """Return the parts of a message's content; none if the content is a plain string."""
    content = message.get("content")
    return content if isinstance(content, list) else []


def _is_dropped(name: str, body: Mapping[str, Any], route: Route) -> bool:
    """Tell whether `name` is dropped because the model replaces one that supported it.

    The alias was documented with a temperature. Its successor runs without reasoning, the closest
    match, and does not support a temperature.
    """
    is_successor = route.extra.get("reasoning_effort") == "none"
    return name == "temperature" and is_successor and body.get("reasoning_effort", "none") == "none"
