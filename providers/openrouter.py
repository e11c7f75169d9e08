"""OpenRouter: one API for many vendors' models, whether our catalogue lists them or not."""

from typing import Any

from config.catalog.model import Route
from models.chat import ChatRequest
from ops.turns import in_turns
from providers.openai_compatible import OpenAICompatible, without
from providers.parameters import EVERYTHING, Message, format_of, requested_parameters


class OpenRouter(OpenAICompatible):
    name = "openrouter"
    headers = {"X-Title": "LikeDo AI API"}
    #: OpenRouter knows `n`, but most of the vendors behind it ignore it.
    unsupported = frozenset({"n"})
    foreign_fields = frozenset({"images"})
    routes_itself = True

    def capabilities(self, request: ChatRequest, route: Route) -> frozenset[str]:
        # A model that is not in the catalogue may support everything; see `_preference`.
        if route.upstream.takes:
            return super().capabilities(request, route)
        return EVERYTHING - self.unsupported

    def defaults_temperature(self, request: ChatRequest, route: Route) -> bool:
        required = self._preference(request, route).get("require_parameters")
        return super().defaults_temperature(request, route) and not required

    def payload(self, request: ChatRequest, route: Route, max_tokens: int | None) -> dict[str, Any]:
        payload = super().payload(request, route, max_tokens)
        if preference := self._preference(request, route):
            payload["provider"] = preference
        return payload

    def messages(self, request: ChatRequest) -> list[Message]:
        return [_with_reasoning(message) for message in in_turns(super().messages(request))]

    def _preference(self, request: ChatRequest, route: Route) -> dict[str, Any]:
        """Return the `provider` object: how OpenRouter chooses among a model's vendors.

        OpenRouter silently drops unsupported parameters unless `require_parameters` limits it to
        vendors that support all of them. If the catalogue knows what the model supports, `check`
        has refused such parameters already.
        """
        preference = {**route.extra.get("provider", {}), **(request.routing_preference or {})}
        has_needs = requested_parameters(request.body) or format_of(request.body) != "text"
        if has_needs and not route.upstream.takes:
            preference.setdefault("require_parameters", True)
        return preference


def _with_reasoning(message: Message) -> Message:
    """Return `message` with its reasoning in `reasoning`, OpenRouter's name for the field."""
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        return message
    return {"reasoning": reasoning, **without({"reasoning_content"}, message)}


provider = OpenRouter()
