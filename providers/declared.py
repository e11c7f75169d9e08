"""Providers declared in the catalogue: they speak OpenAI's protocol, and their facts are data."""

from typing import Any

from config.catalog.model import Route
from config.catalog.provider import Provider
from models.chat import ChatRequest
from providers.deepseek import json_instructions
from providers.openai_compatible import OpenAICompatible
from providers.parameters import Message, format_of


class Declared(OpenAICompatible):
    """The base of declared providers: each is a subclass with its facts as class attributes."""

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        payload = super().payload(request, route, max_tokens)
        if self._emulates_schema(request):
            payload["response_format"] = {"type": "json_object"}
        return payload

    def messages(self, request: ChatRequest) -> list[Message]:
        history = super().messages(request)
        if self._emulates_schema(request):
            return [*json_instructions(request.body, history), *history]
        return history

    def _emulates_schema(self, request: ChatRequest) -> bool:
        return "json_schema" in self.emulates and format_of(request.body) == "json_schema"


def provider(facts: Provider) -> Declared:
    """Return the provider declared by a `[providers.NAME]` table of the catalogue."""
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
    instance: Declared = type(facts.name, (Declared,), attributes)()
    return instance
