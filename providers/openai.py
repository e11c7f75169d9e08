"""OpenAI, whose protocol other providers speak, too."""

from typing import Any

from config.catalog.model import Route
from models.chat import ChatRequest
from providers.openai_compatible import OpenAICompatible
from providers.openai_images import OpenAIImages


class OpenAI(OpenAICompatible):
    name = "openai"
    supports_custom_tools = True

    def limit_name(self, route: Route) -> str:
        # Reasoning models refuse the old name; the oldest models do not know the new one.
        return "max_completion_tokens" if route.upstream.reasoning else "max_tokens"

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        payload = super().payload(request, route, max_tokens)
        if not payload.get("store"):
            # OpenAI refuses metadata of an answer that is not stored.
            payload.pop("metadata", None)
        return payload


provider = OpenAI()
images = OpenAIImages()
