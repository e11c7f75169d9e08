"""How much a Gemini model thinks: budgets up to version 2.5, levels from 3 on."""

import re
from typing import Any

from config.catalog.model import Route
from models.chat import ChatRequest

#: Up to 2.5: tokens to think with, as in Google's OpenAI-compatible API; 0 turns thinking off.
BUDGETS = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
#: From 3 on: the level for each effort that has another name. Pro models have no `minimal`.
LEVELS = {"xhigh": "high", "max": "high"}


def generation(route: Route) -> float:
    """Return the version in a model's id; infinity without one, as in `gemini-flash-latest`."""
    match = re.match(r"gemini-(\d+(?:\.\d+)?)-", route.upstream.id)
    return float(match.group(1)) if match else float("inf")


def _is_flash(route: Route) -> bool:
    return "flash" in route.upstream.id


def can_turn_off(route: Route) -> bool:
    """Tell whether thinking can be turned off: only in Flash models up to 2.5."""
    return generation(route) < 3 and _is_flash(route)


def thinking(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the `thinkingConfig`, in a dict; the caller's effort goes before the route's.

    Thoughts are requested whenever the model thinks, so a stream is not silent meanwhile.
    """
    effort = request.body.get("reasoning_effort") or route.extra.get("reasoning_effort")
    if effort is None and not route.upstream.reasoning:
        return {}
    config: dict[str, Any] = {}
    if effort == "none" and not can_turn_off(route):
        effort = "minimal"
    if effort and generation(route) < 3:
        config["thinkingBudget"] = BUDGETS[effort]
    elif effort:
        config["thinkingLevel"] = _level(effort, route)
    if config.get("thinkingBudget") != 0:
        config["includeThoughts"] = True
    return {"thinkingConfig": config}


def _level(effort: str, route: Route) -> str:
    level = LEVELS.get(effort, effort)
    return "low" if level == "minimal" and not _is_flash(route) else level
