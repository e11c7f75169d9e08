"""How much a Gemini model thinks: budgets and levels."""

import re
from typing import Any

from config.catalog.model import Route
from models.chat import ChatRequest

#: Up to 2.5, tokens to think with, as Google's own imitation of OpenAI has them; 0 is off.
BUDGETS = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
#: From 3 on, how hard to think; a Pro knows no `minimal`.
LEVELS = {"xhigh": "high", "max": "high"}


def generation(route: Route) -> float:
    """Return the version in a model's name; one without, such as `-latest`, is of the newest."""
    found = re.match(r"gemini-(\d+(?:\.\d+)?)-", route.upstream.id)
    return float(found.group(1)) if found else float("inf")


def _is_flash(route: Route) -> bool:
    return "flash" in route.upstream.id


def can_be_thoughtless(route: Route) -> bool:
    return generation(route) < 3 and _is_flash(route)


def thinking(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return how much to think, the caller's word before the route's.

    Thoughts are asked for wherever there are any: while they come, a stream is not silent.
    """
    effort = request.body.get("reasoning_effort") or route.extra.get("reasoning_effort")
    if effort is None and not route.upstream.reasoning:
        return {}
    amount: dict[str, Any] = {}
    if effort == "none" and not can_be_thoughtless(route):
        effort = "minimal"
    if effort and generation(route) < 3:
        amount["thinkingBudget"] = BUDGETS[effort]
    elif effort:
        amount["thinkingLevel"] = _level(effort, route)
    thoughts = {"includeThoughts": True} if amount.get("thinkingBudget") != 0 else {}
    return {"thinkingConfig": amount | thoughts}


def _level(effort: str, route: Route) -> str:
    level = LEVELS.get(effort, effort)
    return "low" if level == "minimal" and not _is_flash(route) else level
