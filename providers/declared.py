"""Providers that speak OpenAI's protocol and that the catalogue declares: their facts are data."""

from typing import Any

from config.catalog.model import Route
from config.catalog.provider import Provider
from models.chat import ChatRequest
from providers.deepseek import format_wishes
from providers.openai_compatible import OpenAICompatible
from providers.parameters import Message, format_of


class Declared(OpenAICompatible):
    """Each provider is a subclass with its facts as class attributes, as if written by hand."""

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        sent = super().payload(request, route, max_tokens)
        if self._emulates_a_schema(request):
            sent["response_format"] = {"type": "json_object"}
        return sent

    def messages(self, request: ChatRequest) -> list[Message]:
        history = super().messages(request)
        if self._emulates_a_schema(request):
            return [*format_wishes(request.body, history), *history]
        return history

    def _emulates_a_schema(self, request: ChatRequest) -> bool:
        return "json_schema" in self.emulates and format_of(request.body) == "json_schema"


def provider(facts: Provider) -> Declared:
    """Return the provider that a table of the catalogue declares."""
    attributes: dict[str, Any] = {
        "name": facts.name,
        "path": facts.path,
        "query": facts.query,
        "key_header": facts.key_header,
        "headers": facts.headers,
        "output_limit": facts.output_limit,
        "supports": facts.supports,
        "unsupported": facts.unsupported,
        "emulates": facts.emulates,
        "drops": facts.drops,
        "supports_custom_tools": facts.custom_tools,
    }
    if facts.foreign_fields is not None:
        attributes["foreign_fields"] = facts.foreign_fields
    made: Declared = type(facts.name, (Declared,), attributes)()
    return made
