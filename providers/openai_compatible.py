"""A provider that speaks OpenAI's chat protocol: facts are class attributes, the rest is here."""

from collections.abc import Generator, Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from config.catalog.model import Route
from config.settings import settings
from models.chat import ChatRequest
from models.chat_parameters import DEFAULT_TEMPERATURE, OWN_PARAMETERS
from net import http
from net.call import Call
from providers.parameters import SUBJECTS, Checked, Message
from providers.wire import answer as wire_answer
from providers.wire import json, refusal, stream

#: Set anew for every provider.
_SET_BY_US = frozenset(
    {"stream", "stream_options", "messages", "model", "max_tokens", "max_completion_tokens"}
)

#: Sent for a stream. Without the usage nobody would know what to charge.
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAICompatible(Checked):
    """A newcomer needs its `name`, and those of the facts below that differ."""

    #: What follows the address; `{model}` stands for the upstream model's id.
    path: ClassVar[str] = "/chat/completions"
    #: What follows the path, such as the version of the protocol.
    query: ClassVar[Mapping[str, str]] = {}
    #: The header that holds the key by itself. None: `Authorization: Bearer KEY`.
    key_header: ClassVar[str | None] = None
    #: What goes along beside the key, such as the name of the application.
    headers: ClassVar[Mapping[str, str]] = {}
    #: What the provider calls the limit of output tokens.
    output_limit: ClassVar[str] = "max_tokens"
    #: Parameters that the provider does not know and that can be dropped in silence.
    drops: ClassVar[frozenset[str]] = frozenset()
    #: Fields of a message that other providers answer with and this one does not take back.
    foreign_fields: ClassVar[frozenset[str]] = frozenset(
        {"reasoning_content", "reasoning_details", "images"}
    )

    def complete(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> dict[str, Any]:
        sent = self.payload(request, route, max_tokens)
        response = http.post(call, self._url(route), self._headers(key), sent)
        if response.status != 200:
            raise refusal.refusal(self.name, response)
        body = json.decoded(self.name, response.content)
        return wire_answer.completion(self.name, body, response.headers)

    def stream(
        self, request: ChatRequest, route: Route, max_tokens: int | None, key: str, call: Call
    ) -> Generator[dict[str, Any], None, None]:
        sent = self.payload(request, route, max_tokens) | STREAMED
        with http.stream(call, self._url(route), self._headers(key), sent) as answer:
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
        """Return what to send for `request`, which stays as it is."""
        capabilities = self.capabilities(request, route)
        sent = {
            name: value for name, value in request.body.items() if self._passes(name, capabilities)
        }
        sent = {name: value for name, value in sent.items() if _has_its_subject(name, sent)}
        sent = {**route.extra, **sent}
        sent["model"] = route.upstream.id
        sent["messages"] = self.messages(request)
        if limit := max_tokens or request.max_tokens:
            sent[self.limit_name(route)] = limit
        if "sampling" in capabilities and self.defaults_temperature(request, route):
            sent.setdefault("temperature", DEFAULT_TEMPERATURE)
        return sent

    def messages(self, request: ChatRequest) -> list[Message]:
        """Return the history as the provider takes it."""
        return [without(self.foreign_fields, message) for message in request.messages]

    def limit_name(self, route: Route) -> str:
        """Return what the provider calls the limit of output tokens for `route`."""
        return self.output_limit

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        """Say whether the product's default temperature is sent where the caller gave none."""
        return not route.upstream.reasoning

    def _passes(self, name: str, capabilities: frozenset[str]) -> bool:
        """Tell whether a parameter is sent.

        `check` has refused those that ask for what the model does not support, so the ones that
        are dropped here have their default value.
        """
        if name in OWN_PARAMETERS or name in _SET_BY_US or name in self.drops:
            return False
        return self._honours(name, capabilities)


def _has_its_subject(name: str, sent: Mapping[str, Any]) -> bool:
    """Tell whether what `name` speaks of is there; OpenAI refuses it where it is not."""
    return name not in SUBJECTS or SUBJECTS[name] in sent


def without(fields: Iterable[str], message: Message) -> Message:
    """Return `message` without `fields`: itself where it has none of them."""
    found = [field for field in fields if field in message]
    if not found:
        return message
    return {name: value for name, value in message.items() if name not in found}
