"""The base of providers that speak OpenAI's chat protocol; they differ in class attributes."""

from collections.abc import Generator, Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from config.catalog.model import Route
from config.settings import settings
from models import unpriced
from models.chat import ChatRequest
from models.chat_parameters import DEFAULT_TEMPERATURE, OWN_PARAMETERS
from net import http
from net.call import Call
from ops.turns import in_turns
from providers.parameters import DEPENDS_ON, Checked, Message
from providers.wire import answer as wire_answer
from providers.wire import json, refusal, stream

#: Parameters that are set here for each request, so the caller's values are not passed on.
_SET_BY_US = frozenset(
    {"stream", "stream_options", "messages", "model", "max_tokens", "max_completion_tokens"}
)

#: Sent for a stream. The usage is needed to price the answer.
_STREAM_PARAMETERS = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAICompatible(Checked):
    """A new provider needs its `name`, and those of the facts below that differ."""

    #: The path below the base URL; `{model}` stands for the upstream model's id.
    path: ClassVar[str] = "/chat/completions"
    #: The query parameters, such as the version of the protocol.
    query: ClassVar[Mapping[str, str]] = {}
    #: The header that holds the bare key. None: `Authorization: Bearer KEY`.
    key_header: ClassVar[str | None] = None
    #: Headers sent in addition to the key, such as the name of the application.
    headers: ClassVar[Mapping[str, str]] = {}
    #: The provider's name for the limit of output tokens.
    output_limit: ClassVar[str] = "max_tokens"
    #: Parameters that the provider does not know and that can be dropped silently.
    drops: ClassVar[frozenset[str]] = frozenset()
    #: Message fields from other providers' answers that this one does not accept in the history.
    foreign_fields: ClassVar[frozenset[str]] = frozenset(
        {"reasoning_content", "reasoning_details", "images"}
    )

    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        payload = self.payload(request, route, max_tokens)
        response = http.post(call, self._url(route), self._headers(key), payload)
        if response.status != 200:
            raise refusal.refusal(self.name, response)
        body = json.decoded(self.name, response.content)
        return wire_answer.completion(self.name, body, response.headers)

    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        payload = self.payload(request, route, max_tokens) | _STREAM_PARAMETERS
        with http.stream(call, self._url(route), self._headers(key), payload) as answer:
            if answer.status != 200:
                raise refusal.refusal(self.name, answer.whole())
            yield from stream.read(self.name, answer)

    def _url(self, route: Route) -> str:
        path = self.path.replace("{model}", quote(route.upstream.id, safe=""))
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{settings.base_url_of(self.name)}{path}{query}"

    def _headers(self, key: str) -> dict[str, str]:
        if not key:
            return dict(self.headers)
        if self.key_header:
            return {self.key_header: key, **self.headers}
        return {"Authorization": f"Bearer {key}", **self.headers}

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        """Return the JSON to send for `request`, which is not modified."""
        capabilities = self.capabilities(request, route)
        given = {
            name: value
            for name, value in in_turns(request.body.items())
            if self._is_sent(name, capabilities)
        }
        given = {
            name: value for name, value in in_turns(given.items()) if _has_dependency(name, given)
        }
        payload = {**route.extra, **given}
        payload["model"] = route.upstream.id
        payload["messages"] = self.messages(request)
        if limit := max_tokens or request.max_tokens:
            payload[self.limit_name(route)] = limit
        if "sampling" in capabilities and self.defaults_temperature(request, route):
            payload.setdefault("temperature", DEFAULT_TEMPERATURE)
        return payload

    def messages(self, request: ChatRequest) -> list[Message]:
        """Return the history in the form that the provider accepts."""
        return [without(self.foreign_fields, message) for message in in_turns(request.messages)]

    def limit_name(self, route: Route) -> str:
        """Return the provider's name for the limit of output tokens for `route`."""
        return self.output_limit

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        """Tell whether to send the product's default temperature if the caller gave none."""
        return not route.upstream.reasoning

    def _is_sent(self, name: str, capabilities: frozenset[str]) -> bool:
        """Tell whether a parameter is sent.

        `check` has already refused unsupported values, so an unsupported parameter that is dropped
        here has its default value.
        """
        if name in OWN_PARAMETERS or name in _SET_BY_US or name in self.drops:
            return False
        if name in unpriced.LEFT_OUT:
            return False
        return self._is_supported(name, capabilities)


def _has_dependency(name: str, given: Mapping[str, Any]) -> bool:
    """Tell whether the parameter that `name` depends on is `given`; OpenAI refuses it alone."""
    return name not in DEPENDS_ON or DEPENDS_ON[name] in given


def without(fields: Iterable[str], message: Message) -> Message:
    """Return `message` without `fields`, or `message` itself if it has none of them."""
    present = [field for field in fields if field in message]
    if not present:
        return message
    return {name: value for name, value in message.items() if name not in present}
