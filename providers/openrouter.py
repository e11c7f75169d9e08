"""OpenRouter: one API for many vendors' models, whether our catalogue lists them or not."""

import math
from collections.abc import Mapping
from typing import Any

from config.catalog.load import catalog
from config.catalog.model import Route
from models.chat import ChatRequest
from models.errors import InvalidRequest
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

    def check(self, request: ChatRequest, route: Route) -> None:
        super().check(request, route)
        _max_price(request.routing_preference or {}, {})

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
        if request.routing_preference is not None or not route.upstream.takes:
            # Whatever vendor the caller prefers, none may cost more than the caller is charged for.
            preference["max_price"] = _max_price(request.routing_preference or {}, _bounds(route))
        has_needs = requested_parameters(request.body) or format_of(request.body) != "text"
        if has_needs and not route.upstream.takes:
            preference.setdefault("require_parameters", True)
        return preference


def _bounds(route: Route) -> dict[str, float]:
    """Return the most that a vendor may cost: the route's own `max_price`, or else the catalogue's.

    The catalogue's is raised to the model's own price.
    """
    if own := route.extra.get("provider", {}).get("max_price"):
        return _max_price({"max_price": own}, {})
    bounds = catalog.defaults.unlisted.max_price.as_json()
    costs = {
        "prompt": route.upstream.usd_per_million_input,
        "completion": route.upstream.usd_per_million_output,
    }
    raised = {name: max(bounds[name], float(usd)) for name, usd in costs.items() if usd is not None}
    return bounds | raised


def _max_price(preference: Mapping[str, Any], bounds: Mapping[str, float]) -> dict[str, float]:
    """Return `max_price` of a routing `preference`, none of it above `bounds`.

    Raises `InvalidRequest` if it is not an object of numbers, which may be written as text.
    """
    given = preference.get("max_price")
    if given is None:
        return dict(bounds)
    if not isinstance(given, dict):
        raise _invalid("provider.max_price", "an object of prices")
    prices = {
        name: _price(value, f"provider.max_price.{name}")
        for name, value in given.items()
        if value is not None
    }
    return prices | {name: min(bound, prices.get(name, bound)) for name, bound in bounds.items()}


def _price(value: Any, param: str) -> float:
    try:
        price = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        price = math.nan
    if not 0 <= price < math.inf:
        raise _invalid(param, "a price in US dollars, 0 or more")
    return price


def _invalid(param: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': it must be {rule}.", param=param)


def _with_reasoning(message: Message) -> Message:
    """Return `message` with its reasoning in `reasoning`, OpenRouter's name for the field."""
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        return message
    return {"reasoning": reasoning, **without({"reasoning_content"}, message)}


provider = OpenRouter()
