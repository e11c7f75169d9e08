"""OpenRouter: one door to every vendor's models, listed in our catalogue or not."""

from typing import Any

from config.catalog.model import Route
from models.chat import ChatRequest
from providers.openai_compatible import OpenAICompatible, without
from providers.parameters import EVERYTHING, Message, asked, format_of


class OpenRouter(OpenAICompatible):
    name = "openrouter"
    headers = {"X-Title": "LikeDo AI API"}
    #: Known and, by most of the vendors behind it, ignored.
    unsupported = frozenset({"n"})
    foreign_fields = frozenset({"images"})
    routes_itself = True

    def capabilities(self, request: ChatRequest, route: Route) -> frozenset[str]:
        # A model that is not in the catalogue may support anything; see `_preference`.
        if route.upstream.takes:
            return super().capabilities(request, route)
        return EVERYTHING - self.unsupported

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        required = self._preference(request, route).get("require_parameters")
        return super().defaults_temperature(request, route) and not required

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        sent = super().payload(request, route, max_tokens)
        if preference := self._preference(request, route):
            sent["provider"] = preference
        return sent

    def messages(self, request: ChatRequest) -> list[Message]:
        return [_with_its_thoughts(message) for message in super().messages(request)]

    def _preference(self, request: ChatRequest, route: Route) -> dict[str, Any]:
        """Return how OpenRouter is to choose among the vendors of a model.

        It drops in silence what a model does not support, unless told to use only vendors that
        support all of it. If the catalogue knows what the model supports, `check` has seen to that.
        """
        preference = {**route.extra.get("provider", {}), **(request.routing_preference or {})}
        wishes = asked(request.body) or format_of(request.body) != "text"
        if wishes and not route.upstream.takes:
            preference.setdefault("require_parameters", True)
        return preference


def _with_its_thoughts(message: Message) -> Message:
    """Return `message` with its reasoning under the name that OpenRouter gave it."""
    thoughts = message.get("reasoning_content")
    if thoughts is None:
        return message
    return {"reasoning": thoughts, **without({"reasoning_content"}, message)}


provider = OpenRouter()
